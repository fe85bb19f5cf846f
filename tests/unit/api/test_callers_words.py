"""What a worker refuses is told in the words of the body, whichever dialect's they are."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

import api.core
from api.app import create_app
from api.dispatch import Dispatcher
from api.settings import ApiSettings
from shared.jobs import Request
from shared.results import Kind, Output
from tests.helpers.outputs import output
from tests.helpers.served import served_model, work_of
from workers.served_model import ServedModel

MODEL = "all-MiniLM-L6-v2"


def _refusal(served: ServedModel, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The error of the real gateway, whose worker makes its checks and nothing else."""

    class Checking(Dispatcher):
        async def run(self, _model: object, _lane: object, request: Request, _: object = None) -> Output:
            served.sequences_of(work_of(request))
            return output([[0.5]])

    monkeypatch.setattr(api.core, "Dispatcher", Checking)
    answer = TestClient(create_app(ApiSettings())).post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/embeddings", {"input": "a", "dimensions": 500}, "dimensions"),
        ("/v1/embeddings", {"input": "a", "output_dimension": 500}, "output_dimension"),
        ("/v2/embed", {"texts": ["a"], "output_dimension": 500, "dimensions": 8}, "output_dimension"),
        ("/embed", {"inputs": "a", "dimensions": 500}, "dimensions"),
        ("/vectors", {"text": "a", "config": {"dimensions": 500}}, "config.dimensions"),
        ("/", {"inputs": "a", "parameters": {"dimensions": 500}}, "parameters.dimensions"),
        ("/vertex", {"instances": [{"inputs": "a"}, {"inputs": "b", "dimensions": 500}]}, "instances[1].dimensions"),
        (
            "/qdrant/inference",
            {"inputs": [{"data": "a", "model": MODEL, "options": {"mrl": 500}}]},
            "inputs[0].options.mrl",
        ),
        ("/v1/embeddings", {"input": "a", "truncate_prompt_tokens": 1}, "truncate_prompt_tokens"),
        ("/v2/embed", {"texts": ["a"], "max_tokens": 1}, "max_tokens"),
        ("/v1/embeddings", {"input": "a", "output_dtype": "int8", "normalize": False}, "normalize"),
        ("/v1/embeddings", {"input": "a", "output_dtype": "int8", "normalized": False}, "normalized"),
        ("/v1/embeddings", {"input": "a", "output_dtype": "int8", "use_activation": False}, "use_activation"),
        ("/v1/embeddings", {"input": "a", "truncation_side": "left"}, "truncation_side"),
        ("/v1/embeddings", {"input": "a", "truncate": "START"}, "truncate"),
        ("/v2/embed", {"texts": ["a"], "truncate": "START"}, "truncate"),
        ("/embed", {"inputs": "a", "truncation_direction": "Left"}, "truncation_direction"),
        ("/v1/rerank", {"query": "q", "documents": ["a"], "truncation_side": "left"}, "truncation_side"),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"truncation_direction": "left"}},
            "parameters.truncation_direction",
        ),
        ("/v1/embeddings", {"input": "a", "prompt_name": "nobody"}, "prompt_name"),
        ("/v1/embeddings", {"input": ["mill " * 300], "late_chunking": True}, "late_chunking"),
    ],
)
def test_a_refusal_names_the_field_that_was_sent(
    path: str, body: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _refusal(served_model(skip_prompt=True), path, body, monkeypatch)

    assert answer["message"].startswith(f"`{said}`")
    if isinstance(answer["error"], dict):
        assert answer["error"]["param"] == said


def test_what_has_no_dimensions_is_not_said_to_have_none_between_1_and_0(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = served_model(kinds=[Kind.SPARSE], dimensions=None)
    body = {"inputs": [{"data": "a", "model": MODEL, "options": {"kind": "sparse", "dimensions": 8}}]}

    said = _refusal(sparse, "/qdrant/inference", body, monkeypatch)["message"]

    assert said == "`inputs[0].options.dimensions`: vectors of model m have no dimensions to keep some of"


def test_an_input_is_still_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"input": ["a", "mill " * 300], "truncate": False}

    answer = _refusal(served_model(), "/v1/embeddings", body, monkeypatch)

    assert answer["message"].startswith("`input[1]` has 302 tokens and m takes 256")
    assert answer["error"]["param"] == "input"
