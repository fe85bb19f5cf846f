"""Callbacks over HTTP, signed as Standard Webhooks has it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from shared.bulk import signing
from shared.bulk.event_bodies import Body, final_event, reference_event, results_event, write_body
from shared.bulk.jobs import Delivery
from shared.bulk.sending import NotSent
from shared.model_config import ConfigurationError
from workers.sink import DeliveryFailed, OpenSink, Parcel, Tools, Verdict, option

_GONE = 410


class _OpenWebhook:
    """An endpoint with the secrets that are in force."""

    def __init__(self, url: str, secrets: Sequence[str], tools: Tools) -> None:
        self._url = url
        self._secrets = secrets
        self._tools = tools

    def deliver(self, parcel: Parcel) -> int | None:
        """Post the event; the status of the answer.

        Raises:
            DeliveryFailed: There was none, or another than 2xx.
        """
        body = self._body(parcel)
        signed = signing.headers(parcel.event.id, int(time.time()), body.content, self._secrets)
        try:
            answer = self._tools.post(self._url, body.content, {**body.headers(), **signed})
        except NotSent as err:
            raise DeliveryFailed(str(err)) from err
        if not answer.accepted:
            reason = f"the receiver answered {answer.status}"
            if 300 <= answer.status < 400:
                reason += ", and redirects are not followed"
            verdict = Verdict.GONE if answer.status == _GONE else Verdict.RETRY
            raise DeliveryFailed(reason, verdict=verdict, status=answer.status, retry_after_s=answer.retry_after_s)
        return answer.status

    def close(self) -> None:
        """The connections are the process's."""

    def _body(self, parcel: Parcel) -> Body:
        """The event with its results, or with their place where that was asked for or they are too large."""
        event, job, segment = parcel.event, parcel.job, parcel.segment
        # How a job wants its callbacks is a matter of those receivers that it names.
        delivery, tools = job.spec.delivery if event.own else Delivery(), self._tools
        if segment is None:
            return write_body(final_event(event, job, tools.public_url), delivery.encoding, compress=delivery.gzip)
        # Vectors take at least their own bytes in every encoding, so what is far too large is not even written down.
        if not delivery.by_reference and parcel.results.vector_bytes <= tools.body_bytes:
            whole = results_event(event, job, segment, parcel.results)
            body = write_body(whole, delivery.encoding, compress=delivery.gzip)
            if len(body.content) <= tools.body_bytes:
                return body
        place = reference_event(event, job, segment, tools.public_url)
        return write_body(place, delivery.encoding, compress=delivery.gzip)


class Webhook:
    """Endpoints of the webhook API, and receivers that an operator declares.

    Options: `url`, `secret` (`whsec_...`), or `secrets` while one is being replaced.
    """

    name = "webhook"
    caller_options: frozenset[str] = frozenset()
    takes_bits = True

    def open(self, options: Mapping[str, Any], tools: Tools) -> OpenSink:
        """An endpoint.

        Raises:
            ConfigurationError: An option is missing.
        """
        secrets = options.get("secrets") or [option(options, "secret", str)]
        if not all(isinstance(secret, str) and secret.startswith("whsec_") for secret in secrets):
            raise ConfigurationError("its `secret` must begin with whsec_")
        return _OpenWebhook(option(options, "url", str), secrets, tools)


PLUGIN = Webhook()
