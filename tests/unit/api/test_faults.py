"""A body that does not fit is refused with the place at fault, as its sender wrote it."""

from typing import Any

import pytest

import api.dialects
from api import wire
from api.dialect import Route
from shared.errors import InvalidRequest
from shared.plugins import discover

_DIALECTS = discover(api.dialects)


def _route(name: str, path: str, key: str = "") -> Route:
    return next(route for route in _DIALECTS[name].routes if path in route.paths and key in ("", route.key))


EMBEDDINGS = _route("openai", "/v1/embeddings")
EMBED = _route("cohere", "/v2/embed")
SIMILARITY = _route("tei", "/similarity")
RERANK = _route("tei", "/rerank")
PREDICT = _route("tei", "/predict")


@pytest.mark.parametrize(
    ("route", "body", "path", "sentence"),
    [
        (_route("qdrant", "/qdrant/inference"), {"inputs": [{"data": "a"}]}, "inputs[0].model", "Field required"),
        (SIMILARITY, {"inputs": {"sentences": ["a"]}}, "inputs.source_sentence", "Field required"),
        (SIMILARITY, {"inputs": "a"}, "inputs", "Input should be an object"),
        (EMBED, {"inputs": [{}]}, "inputs[0].content", "Field required"),
        (EMBED, {"inputs": [{"content": [{"text": 3}]}]}, "inputs[0].content[0].text", "valid string"),
        (
            _route("vllm", "/v1/embeddings", "messages"),
            {"messages": [{"content": "a"}]},
            "messages[0].role",
            "required",
        ),
        (
            _route("weaviate", "/vectors", "text"),
            {"text": "a", "config": {"task_type": "bad"}},
            "config.task_type",
            "'query'",
        ),
        (EMBEDDINGS, {"input": ["a", None]}, "input[1]", "valid string"),
        (EMBEDDINGS, {"input": ["a", {"text": 5}]}, "input[1].text", "valid string"),
        (EMBEDDINGS, {"input": {"text": 5}}, "input.text", "valid string"),
        (EMBEDDINGS, {"input": [1, "a"]}, "input[1]", "valid integer"),
        (EMBEDDINGS, {"input": [[1], [2, -1]]}, "input[1][1]", "greater than or equal to 0"),
        (EMBEDDINGS, {"input": "a", "embedding_type": ["float", "x"]}, "embedding_type[1]", "'float'"),
        (EMBEDDINGS, {"dimensions": 4}, "input", "Field required"),
        (RERANK, {"query": "a", "texts": ["a", {"txt": "a"}]}, "texts[1].text", "Field required"),
        (PREDICT, {"inputs": [["a", "b", "c"]]}, "inputs[0]", "at most 2 items, not 3"),
        (PREDICT, {"inputs": [["a"], ["b", 1]]}, "inputs[1][1]", "valid string"),
        (_route("vertex", "/vertex"), {"instances": ["a"]}, "instances[0]", "Input should be an object"),
    ],
)
def test_the_place_at_fault_is_named(route: Route, body: dict[str, Any], path: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        wire.validated(route.body, body)

    message = raised.value.message
    assert message.startswith(f"`{path}`: ")
    assert sentence in message
    assert raised.value.param in body or raised.value.param == path
