"""An error about one of many inputs says which one, in the words in which it was sent."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

import api.dialects
from api import wire
from api.dialect import Job, Route
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest, TokenizeRequest
from shared.places import QUERY
from shared.plugins import discover
from tests.helpers.dialects import CONTEXT, job

_DIALECTS = discover(api.dialects)
_ROUTES = [
    pytest.param(route, id=f"{dialect.name} {route.paths[0]} {route.key}".strip())
    for dialect in _DIALECTS.values()
    for route in dialect.routes
]


def _route(name: str, path: str, key: str = "") -> Route:
    return next(route for route in _DIALECTS[name].routes if path in route.paths and route.key == key)


def _inputs(request: Request) -> dict[int, Any]:
    """What a request has at each place."""
    match request:
        case RerankRequest(query=query, documents=documents):
            return {QUERY: query, **dict(enumerate(documents))}
        case EmbedRequest(texts=texts) | ClassifyRequest(texts=texts) | TokenizeRequest(texts=texts):
            return dict(enumerate(texts))
        case DecodeRequest(ids=ids):
            return dict(enumerate(ids))


def _at(body: Any, path: str) -> Any:
    """What stands at a path of a body."""
    for name, position in re.findall(r"(\w+)|\[(\d+)\]", path):
        body = body[name] if name else body[int(position)]
    return body


def _leaves(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for entry in inner:
        yield from _leaves(entry)


def _assert_places(found: Job, body: dict[str, Any]) -> None:
    for number, request in enumerate(found.requests):
        for index, given in _inputs(request).items():
            path = found.place(number, index)
            assert given in list(_leaves(_at(body, path))), path


@pytest.mark.parametrize("route", _ROUTES)
def test_every_dialect_knows_where_its_inputs_were_sent(route: Route) -> None:
    body = dict(route.example)

    _assert_places(route.parse(wire.validated(route.body, body), CONTEXT), body)


@pytest.mark.parametrize(
    ("route", "body", "number", "index", "path"),
    [
        (_route("openai", "/v1/embeddings", "input"), {"input": ["a", "b"]}, 0, 1, "input[1]"),
        (_route("openai", "/v1/embeddings", "input"), {"input": "a"}, 0, 0, "input"),
        (_route("cohere", "/v1/rerank", "documents"), {"query": "q", "documents": ["a", "b"]}, 0, 1, "documents[1]"),
        (_route("cohere", "/v1/rerank", "documents"), {"query": "q", "documents": ["a", "b"]}, 0, QUERY, "query"),
        (_route("cohere", "/v2/embed"), {"images": ["a", "b"]}, 0, 1, "images[1]"),
        (_route("vllm", "/score"), {"queries": "q", "documents": ["a", "b"]}, 0, 1, "documents[1]"),
        (_route("vllm", "/score"), {"text_1": ["q", "r"], "text_2": ["a", "b"]}, 1, 0, "text_2[1]"),
        (_route("vllm", "/score"), {"text_1": ["q", "r"], "text_2": ["a", "b"]}, 1, QUERY, "text_1[1]"),
        (_route("vllm", "/score"), {"queries": "q", "documents": "a"}, 0, 0, "documents"),
        (_route("tei", "/predict"), {"inputs": ["a", "b"]}, 0, 0, "inputs"),
        (_route("tei", "/predict"), {"inputs": [["a", "b"], ["c"]]}, 0, 1, "inputs[1]"),
        (
            _route("tei", "/similarity"),
            {"inputs": {"source_sentence": "s", "sentences": ["a", "b"]}},
            0,
            2,
            "inputs.sentences[1]",
        ),
        (_route("jina", "/v1/classify", "input"), {"input": ["a"], "labels": ["b", "c"]}, 0, 2, "labels[1]"),
        (
            _route("vertex", "/vertex"),
            {"instances": [{"query": "q", "texts": ["a"]}, {"query": "r", "texts": ["b", "c"]}]},
            1,
            1,
            "instances[1].texts[1]",
        ),
        (
            # The second input is the first one again: to a worker they are one.
            _route("qdrant", "/qdrant/inference"),
            {"inputs": [{"data": text, "model": "own/name"} for text in ("a", "a", "b")]},
            0,
            1,
            "inputs[2].data",
        ),
    ],
)
def test_a_place_is_written_as_its_sender_would(
    route: Route, body: dict[str, Any], number: int, index: int, path: str
) -> None:
    assert job(route, **body).place(number, index) == path
