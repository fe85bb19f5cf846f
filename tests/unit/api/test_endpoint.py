"""The one request path: what the status and headers of an error tell a client to do."""

from typing import Any

import numpy as np
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
from shared.results import Output


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


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed"])
def test_a_large_answer_comes_whole_and_says_how_long_it_is(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 384)).astype("<f4")

    class Embedding(Dispatcher):
        async def run(self, *_: object) -> Output:
            return Output(shape=rows.shape, data=rows.tobytes(), tokens=900)

    monkeypatch.setattr(api.core, "Dispatcher", Embedding)
    texts = ["a mill"] * 300
    answer = TestClient(create_app(ApiSettings())).post(path, json={"input": texts, "inputs": texts})

    read = answer.json() if path == "/embed" else [entry["embedding"] for entry in answer.json()["data"]]
    assert np.array_equal(np.array(read, "<f4"), rows)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-compute-tokens"] == "900"
