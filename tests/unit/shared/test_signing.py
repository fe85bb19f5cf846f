"""Signatures of callbacks, verified by the clients that receivers have."""

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai._exceptions import InvalidWebhookSignatureError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from shared.bulk import signing
from shared.errors import InvalidRequest

#: What the documentation tells receivers to do.
SNIPPETS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs" / "reference" / "callbacks.md").read_text(), re.DOTALL
)
BODY = b'{"type":"batch.completed","created_at":1,"timestamp":"2026-01-01T00:00:00Z","data":{"id":"batch_1"}}'


def test_standardwebhooks_verifies_what_was_signed() -> None:
    # Given
    secret = signing.new_secret()

    # When
    headers = signing.headers("evt_1", int(time.time()), BODY, [secret])

    # Then
    assert Webhook(secret).verify(BODY, headers)["data"] == {"id": "batch_1"}


def test_the_openai_client_unwraps_the_same_body() -> None:
    # Given
    secret = signing.new_secret()
    headers = signing.headers("evt_1", int(time.time()), BODY, [secret])

    # When
    event = OpenAI(api_key="unused", webhook_secret=secret).webhooks.unwrap(BODY, headers)

    # Then
    assert (event.type, event.data.id) == ("batch.completed", "batch_1")


def test_a_changed_body_and_a_wrong_secret_are_noticed() -> None:
    # Given
    secret = signing.new_secret()
    headers = signing.headers("evt_1", int(time.time()), BODY, [secret])

    # Then
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY.replace(b"batch_1", b"batch_2"), headers)
    with pytest.raises(InvalidWebhookSignatureError):
        OpenAI(api_key="unused").webhooks.unwrap(BODY, headers, secret=signing.new_secret())


def test_while_a_secret_is_replaced_both_verify() -> None:
    # Given
    new, old = signing.new_secret(), signing.new_secret()

    # When
    headers = signing.headers("evt_1", int(time.time()), BODY, [new, old])

    # Then
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (new, old):
        Webhook(secret).verify(BODY, headers)


def test_an_attempt_has_its_own_time_and_the_events_own_id() -> None:
    # Given
    secret = signing.new_secret()

    # When
    first, second = (signing.headers("evt_1", at, BODY, [secret]) for at in (1_000, 2_000))

    # Then
    assert first["webhook-id"] == second["webhook-id"] == "evt_1"
    assert first["webhook-signature"] != second["webhook-signature"]


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    # Given
    secret, body = signing.new_secret(), bytes(range(256))

    # When
    headers = signing.headers("evt_1", 1_000, body, [secret])

    # Then
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, b"evt_1.1000." + body, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["standardwebhooks", "openai", "bytes"])
def test_what_the_documentation_says_verifies_and_refuses(snippet: str) -> None:
    # Given
    names: dict[str, Any] = {}
    exec(snippet, names)
    secret = signing.new_secret()
    headers = signing.headers("evt_1", int(time.time()), BODY, [secret])

    # Then
    assert names["receive"](BODY, headers, secret)
    with pytest.raises((ValueError, WebhookVerificationError, InvalidWebhookSignatureError)):
        names["receive"](BODY + b" ", headers, secret)


@pytest.mark.parametrize("size", [24, 64])
def test_a_callers_own_secret_is_taken(size: int) -> None:
    secret = "whsec_" + base64.b64encode(bytes(size)).decode()

    assert signing.check_secret(secret) == secret


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "whsec_!!!", "AAAA" * 10, "whsec_" + base64.b64encode(bytes(65)).decode()]
)
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        signing.check_secret(secret)

    assert len(secret) < 7 or secret[6:] not in caught.value.message
