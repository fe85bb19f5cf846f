"""What the OpenAPI document says of the bodies of bulk work is what is checked, no more and no less."""

import asyncio
import base64
from typing import Any

import pytest

from api import schemas, wire
from api.bulk.batch_body import BatchBody
from api.bulk.ingest_options import IngestOptions, Webhook, read_options
from api.bulk.receivers import receiver_of
from shared.addresses import AllowedHosts
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import InvalidRequest, NotStored
from tests.helpers.json_schema import fits

URL = "https://indexer.example/vectors"


def secret(size: int) -> str:
    """A secret of so many bytes."""
    return "whsec_" + base64.b64encode(bytes(size)).decode()


WEBHOOKS: list[dict[str, Any]] = [
    {},
    {"url": None},
    {"url": URL},
    {"url": URL, "endpoint": None},
    {"url": URL, "endpoint": "we_1"},
    {"url": URL, "events": ["job.completed", "batch.failed"]},
    {"url": URL, "events": ["job.begun"]},
    {"url": URL, "events": "job.completed"},
    {"url": URL, "more": 1},
    *({"url": URL, "secret": secret(size)} for size in (23, 24, 25, 26, 27, 62, 63, 64, 65)),
    *({"url": URL, "secret": other} for other in (secret(24) + "=", secret(24) + "\n", secret(24)[6:], "whsec_", None)),
    {"url": URL, "secret": secret(25)[:-1]},
    {"endpoint": "we_1"},
    {"endpoint": "we_1", "events": []},
    {"endpoint": "we_1", "events": ["job.completed"]},
    {"endpoint": "we_1", "secret": secret(24)},
    {"endpoint": "we_1", "secret": None, "url": None},
]


async def _is_webhook(given: dict[str, Any]) -> bool:
    try:
        webhook = wire.validated(Webhook, given, strict=True)
        await receiver_of(webhook, _Registry(), tenant=None)
    except NotStored:
        return True
    except InvalidRequest:
        return False
    return True


class _Registry(WebhookRegistry):
    """One that has no endpoint, so that no Redis is asked."""

    def __init__(self) -> None:
        self._allowed = AllowedHosts([])

    async def get(self, endpoint_id: str, *, tenant: str | None = None) -> Any:
        raise NotStored(endpoint_id)


@pytest.mark.parametrize("given", WEBHOOKS, ids=str)
def test_a_webhook(given: dict[str, Any]) -> None:
    assert asyncio.run(_is_webhook(given)) is fits(given, schemas.standalone(Webhook))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"requests": []},
        {"requests": [{}]},
        {"requests": None},
        {"input_file_id": "file-1"},
        {"input_file_id": "file-1", "requests": None},
        {"input_file_id": "file-1", "requests": [{}]},
        *(
            {"input_file_id": "file-1", "completion_window": window}
            for window in (
                None,
                "1h",
                "24h",
                "720h",
                "721h",
                "0h",
                "01h",
                "1d",
                "30d",
                "31d",
                "7",
                "7w",
                "7d\n",
                "\u0667d",
                24,
            )
        ),
        {"input_file_id": "file-1", "priority": None, "request_params": None},
        {"input_file_id": "file-1", "priority": 101},
        {"input_file_id": "file-1", "priority": 5.0},
        {"input_file_id": "file-1", "request_params": []},
    ],
    ids=str,
)
def test_a_batch(given: dict[str, Any]) -> None:
    # Given
    body = {"endpoint": "/v1/embeddings", **given}

    # When
    try:
        wire.validated(BatchBody, body, strict=True)
        is_taken = True
    except InvalidRequest:
        is_taken = False

    # Then
    assert is_taken is fits(body, schemas.standalone(BatchBody))


@pytest.mark.parametrize(
    "given",
    [
        {"kinds": []},
        {"kinds": ["dense"], "dimensions": 8},
        {"kinds": ["words"]},
        {"webhook": {"url": URL}},
        {"webhook": {}},
        {"webhook_endpoint": "we_1"},
        {"priority": 1.0},
        {"precision": "int8"},
        {"precision": "int9"},
        {"metadata": None},
        {"metadata": []},
        {"nobody": 1},
    ],
    ids=str,
)
def test_options_of_a_job(given: dict[str, Any]) -> None:
    # When
    try:
        read_options(given, is_text=False)
        is_taken = True
    except InvalidRequest:
        is_taken = False

    # Then
    assert is_taken is fits(given, schemas.standalone(IngestOptions))
