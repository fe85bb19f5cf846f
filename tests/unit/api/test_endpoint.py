"""The one request path: what the status and headers of an error tell a client to do."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

import api.core
from api.app import create_app
from api.dispatch import Dispatcher
from api.settings import ApiSettings
from shared.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InputTooLong,
    MillraceError,
    Overloaded,
    Unavailable,
    WorkerLost,
)


def _refused(error: MillraceError, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The answer of the real application when its workers answer so."""

    class Failing(Dispatcher):
        async def run(self, *_: object) -> Any:
            raise error

    monkeypatch.setattr(api.core, "Dispatcher", Failing)
    return TestClient(create_app(ApiSettings())).post("/v1/embeddings", json={"input": "a"})


@pytest.mark.parametrize(
    ("error", "status", "should_retry"),
    [
        (Overloaded(), 429, "true"),
        (Unavailable(), 503, "true"),
        (DeadlineExceeded(), 504, "true"),
        (InferenceFailed(), 500, "false"),
        (WorkerLost(), 500, "false"),
        (MillraceError(), 500, "false"),
        (InputTooLong(), 400, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MillraceError) else str(value),
)
def test_openais_clients_are_told_whether_to_try_again(
    error: MillraceError, status: int, should_retry: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = _refused(error, monkeypatch)

    assert (response.status_code, response.headers.get("x-should-retry")) == (status, should_retry)


def test_an_overloaded_service_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _refused(Overloaded(retry_after_s=7), monkeypatch).headers["retry-after"] == "7"
