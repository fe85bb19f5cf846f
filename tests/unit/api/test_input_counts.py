"""Bodies of many entries: too many are refused before they are read, and nobody waits while many are."""

import asyncio
import sys
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

import api.core
from api.app import create_app
from api.dispatch import Dispatcher
from api.settings import ApiSettings
from shared.errors import WrongTask
from shared.jobs import EmbedRequest
from shared.results import Output
from tests.helpers.outputs import output

MOST = ApiSettings().max_client_batch_size
#: None of these makes sense when it is read.
EMPTY: list[dict[str, Any]] = [{}]
UNNAMED = [{"title": "a"}]


@pytest.mark.parametrize(
    ("path", "body", "field", "status"),
    [
        ("/v1/rerank", {"query": "q", "documents": UNNAMED * (MOST + 1)}, "documents", 413),
        ("/cohere/v2/rerank", {"query": "q", "documents": UNNAMED * (MOST + 1)}, "documents", 413),
        ("/voyage/v1/rerank", {"query": "q", "documents": UNNAMED * (MOST + 1)}, "documents", 413),
        ("/vertex", {"instances": EMPTY * (MOST + 1)}, "instances", 422),
        ("/v1/score", {"queries": ["q"] * (MOST + 1), "documents": UNNAMED * (MOST + 1)}, "documents", 413),
        ("/v1/score", {"text_1": UNNAMED * (MOST + 1), "text_2": ["a"]}, "text_1", 413),
        ("/embed", {"inputs": ["a"] * (MOST + 1)}, "inputs", 422),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["a"] * MOST}}, "inputs.sentences", 422),
    ],
)
def test_too_many_inputs_are_refused_by_the_name_of_their_field_whatever_they_are(
    path: str, body: dict[str, Any], field: str, status: int
) -> None:
    answer = TestClient(create_app(ApiSettings())).post(path, json=body)

    assert (answer.status_code, answer.json()["message"]) == (
        status,
        f"`{field}`: batch of {MOST + 1} inputs exceeds {MOST}; split it or raise MILLRACE_MAX_CLIENT_BATCH_SIZE",
    )


def test_inputs_that_are_repeated_for_qdrant_are_one() -> None:
    body = {"inputs": [{"data": "a", "model": "nobody/serves-this"}] * (MOST + 1)}

    assert TestClient(create_app(ApiSettings())).post("/qdrant/inference", json=body).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/vertex", {"instances": [{"inputs": "a"}] * MOST}),
        ("/v1/score", {"queries": [{"text": "q"}] * MOST, "documents": [{"text": "a"}] * MOST}),
    ],
)
def test_others_have_their_turns_while_many_entries_are_read(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0

    class Counting(Dispatcher):
        async def run(self, _model: object, _lane: object, request: object, _: object = None) -> Output:
            # Answered when all has been read: only what came before counts.
            counted.cancel()
            return output([[0.5]] if isinstance(request, EmbedRequest) else [0.5])

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def ask() -> httpx.Response:
        nonlocal counted
        counted = asyncio.ensure_future(others())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            return await client.post(path, json=body)

    monkeypatch.setattr(api.core, "Dispatcher", Counting)
    app = create_app(ApiSettings())
    counted: asyncio.Future[None]

    # Given threads that take turns so often that a few milliseconds are many
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert asyncio.run(ask()).status_code == 200
    finally:
        sys.setswitchinterval(interval)
    assert turns > 100


@pytest.mark.parametrize("fails", [False, True])
def test_others_have_their_turns_while_many_requests_are_sent_to_the_workers(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    begun_in: list[int] = []

    class Beginning(Dispatcher):
        async def run(self, *_: object) -> Output:
            begun_in.append(turns)
            if fails:
                raise WrongTask("model m takes no texts", param="model")
            return output([[0.5]])

    async def ask() -> httpx.Response:
        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.ensure_future(others())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            answer = await client.post("/vertex", json={"instances": [{"inputs": "a"}] * MOST})
        other.cancel()
        return answer

    monkeypatch.setattr(api.core, "Dispatcher", Beginning)
    app = create_app(ApiSettings())
    answer = asyncio.run(ask())

    assert answer.status_code == (424 if fails else 200)
    # Of those that fail, the rest is not begun.
    assert len(begun_in) == (128 if fails else MOST)
    assert max(begun_in.count(turn) for turn in set(begun_in)) <= 256
