"""Making the job of a request, with the receiver of its events."""

import hashlib
from collections.abc import Mapping

from redis.asyncio import Redis
from starlette.requests import Request

from api.access.caller import caller_of
from api.bulk import ingest_options
from api.bulk.idempotency import HEADER
from api.bulk.ingest_options import IngestOptions
from api.bulk.receivers import receiver_of
from api.settings import ApiSettings
from shared.bulk import sink_cards
from shared.bulk.jobs import Job, JobSpec, State
from shared.bulk.sinks import SinkConfig, refuse_unknown_sink
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import IdempotencyKeyReused
from shared.logging import get_logger

log = get_logger("millrace.bulk")

#: Header of the secret that goes with a webhook's URL; of an answer, where the secret was made here.
SECRET_HEADER = "x-webhook-secret"  # noqa: S105 - a header's name


class JobCreation:
    """Makes jobs."""

    def __init__(
        self,
        redis: Redis,
        table: JobTable,
        webhooks: WebhookRegistry,
        sinks: Mapping[str, SinkConfig],
        settings: ApiSettings,
    ) -> None:
        self._redis = redis
        self._table = table
        self._webhooks = webhooks
        self._sinks = sinks
        self._settings = settings

    async def job(self, request: Request, options: IngestOptions, model: str) -> tuple[Job, str | None]:
        """A new job, or the one of the same idempotency key that did not get all its documents.

        Args:
            request: Its headers may have an idempotency key and a webhook's secret.
            options: What is asked for.
            model: Own name of the model.

        Returns:
            The job, and the secret that was made for its webhook, if one was.

        Raises:
            NotStored: There is no such webhook endpoint.
            Conflict: It is disabled.
            InvalidRequest: The webhook's URL or secret is none, or there is no such sink, or it takes no such job.
            IdempotencyKeyReused: The key's job has other options.
        """
        if options.sink is not None:
            await self._refuse_sink(options.sink, options)
        caller = caller_of(request)
        webhook = options.target(request.headers.get(SECRET_HEADER))
        receiver = None if webhook is None else await receiver_of(webhook, self._webhooks, caller.tenant)
        job_id = _id_of_key(request, caller.tenant)
        endpoint = None if receiver is None else receiver.id
        spec = ingest_options.job_spec(options, model, self._settings, caller, job_id=job_id, endpoint=endpoint)
        earlier = None if job_id is None else await self._table.find(job_id)
        if earlier is not None:
            return _continued(earlier, spec), None
        secret = None
        if webhook is not None and receiver is not None and receiver.inline:
            await self._webhooks.keep(receiver)
            secret = receiver.secrets[0][0] if webhook.secret is None else None
        await self._table.create(spec, State.RECEIVING)
        log.info("job_created", job=spec.id, model=model)
        return await self._table.get(spec.id), secret

    async def _refuse_sink(self, name: str, options: IngestOptions) -> None:
        """Refuse a sink that would take nothing, as far as that is known: who writes to it has said what it takes."""
        refuse_unknown_sink(name, self._sinks)
        card = await sink_cards.find(self._redis, name)
        if card is not None:
            card.refuse(options.sink_options, options.precision)


def _id_of_key(request: Request, tenant: str | None) -> str | None:
    """The job's id where the request has an idempotency key: the same for each sending, another for each tenant."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    named = f"{tenant or ''}{request.url.path} {key}"
    return f"job_{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def _continued(earlier: Job, spec: JobSpec) -> Job:
    def asked(one: JobSpec) -> JobSpec:
        delivery = one.delivery.model_copy(update={"endpoint": None})
        return one.model_copy(update={"created_at": 0, "expires_at": 0, "scope": None, "delivery": delivery})

    if asked(earlier.spec) != asked(spec):
        raise IdempotencyKeyReused
    return earlier
