"""Qdrant's dialect: what its inference client sends and decodes."""

import json
import re
from typing import Any

import pytest

from api import wire
from api.catalog import Catalog
from api.dialect import Answer, Context, Job
from api.dialects.qdrant import PLUGIN, InferenceResponse
from shared.errors import EmptyInput, InvalidRequest
from shared.jobs import EmbedRequest
from shared.results import Kind, Output
from tests.helpers.dialects import answered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import hybrid_output
from tests.helpers.recorded import RECORDED

(ROUTE,) = PLUGIN.routes
DENSE, SPARSE, MULTIVECTOR = Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR
CARDS = card("dense", kinds=[DENSE]), card("splade", kinds=[SPARSE]), card("m3", kinds=[DENSE, SPARSE, MULTIVECTOR])
CONTEXT = Context("req-1", 12.5, Catalog([config(each.name) for each in CARDS], fleet_of(*CARDS)))


def _input(data: Any, model: str = "dense", data_type: str = "text", **options: Any) -> dict[str, Any]:
    return {"data": data, "data_type": data_type, "model": model, "options": options or None}


def _job(*inputs: dict[str, Any], inference: str | None = "update") -> Job:
    body = {"inputs": list(inputs), "inference": inference, "token": "secret"}
    return ROUTE.parse(wire.validated(ROUTE.body, body), CONTEXT)


def _asked(job: Job) -> list[tuple[str | None, list[str], list[Kind]]]:
    return [
        (model, list(request.texts), [Kind(kind) for kind in request.kinds])
        for model, request in zip(job.models, job.requests, strict=True)
        if isinstance(request, EmbedRequest)
    ]


def _rendered(inputs: list[dict[str, Any]], *outputs: Output) -> Any:
    body = ROUTE.body.model_validate({"inputs": inputs})
    answer = json.loads(wire.dumps(ROUTE.render(body, Answer("r", "m", outputs, 0.5, ["m"] * len(outputs)))))
    InferenceResponse.model_validate(answer)
    return answer


def test_what_qdrant_sends_is_answered_as_it_decodes_it() -> None:
    path, body = RECORDED["Qdrant, upsert"]

    assert path in ROUTE.paths
    answer = answered(ROUTE, **body)
    assert len(answer["embeddings"]) == 1
    assert answer["usage"] == {"models": {"own/name": {"tokens": 3}}}


@pytest.mark.parametrize(("inference", "input_type"), [("update", "document"), ("search", "query"), (None, "document")])
def test_what_is_stored_is_a_document_and_what_is_searched_for_a_query(inference: str | None, input_type: str) -> None:
    (request,) = _job(_input("a"), inference=inference).requests

    assert request == EmbedRequest(request_id="req-1", deadline=12.5, texts=["a"], kinds=[DENSE], input_type=input_type)


def test_texts_of_one_model_go_together_and_each_model_has_a_request_of_its_own() -> None:
    job = _job(_input("a"), _input("a", "splade"), _input("b"), _input("b", "splade"))

    assert _asked(job) == [("dense", ["a", "b"], [DENSE]), ("splade", ["a", "b"], [SPARSE])]


def test_several_kinds_of_one_text_are_made_in_one_pass() -> None:
    job = _job(_input("a", "m3"), _input("a", "m3", kind="sparse"), _input("a", "m3", kind="multivector"))

    assert _asked(job) == [("m3", ["a"], [DENSE, SPARSE, MULTIVECTOR])]


def test_texts_that_want_different_kinds_are_not_made_more_of_than_they_want() -> None:
    job = _job(_input("a", "m3"), _input("b", "m3", kind="sparse"))

    assert _asked(job) == [("m3", ["a"], [DENSE]), ("m3", ["b"], [SPARSE])]


def test_a_smaller_vector_is_asked_for_by_either_name_and_apart_from_the_whole_one() -> None:
    job = _job(_input("a"), _input("a", mrl=64), _input("b", dimensions=64, **{"openai-api-key": "x"}))

    assert [request.dimensions for request in job.requests if isinstance(request, EmbedRequest)] == [None, 64]
    assert _asked(job)[1][1] == ["a", "b"]


def test_each_input_gets_its_vector_in_its_place() -> None:
    inputs = [_input("a"), _input("b", "splade"), _input("c"), _input("a")]

    answer = _rendered(
        inputs, hybrid_output(dense=[[0.5], [1.0]], tokens=3), hybrid_output(sparse=[{7: 0.25}], tokens=4)
    )

    assert answer == {
        "embeddings": [[0.5], {"indices": [7], "values": [0.25]}, [1.0], [0.5]],
        "usage": {"models": {"dense": {"tokens": 3}, "splade": {"tokens": 4}}},
    }


def test_each_kind_has_the_shape_that_qdrant_knows_it_by() -> None:
    inputs = [_input("a", "m3", kind=kind) for kind in ("multivector", "dense", "sparse")]

    answer = _rendered(inputs, hybrid_output(dense=[[0.5]], sparse=[{7: 0.25}], multivector=[[[1.0, 2.0], [3.0, 4.0]]]))

    assert answer["embeddings"] == [[[1.0, 2.0], [3.0, 4.0]], [0.5], {"indices": [7], "values": [0.25]}]


def test_images_go_where_texts_would() -> None:
    job = _job(_input("https://example.org/a.png", data_type="image"), _input("base64", data_type="image"))

    assert job.images == ["https://example.org/a.png", "base64"]
    assert _asked(job) == [("dense", ["", ""], [DENSE])]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([_input("i", data_type="image"), _input("a")], "images take a request of their own"),
        ([_input({"a": 1}, data_type="object")], "`inputs[0].data` is not a text or an image"),
        ([_input("a"), _input({"a": 1})], "`inputs[1].data` is not a text or an image"),
        ([_input("a", kind="bm25")], "`inputs[0].options.kind`: "),
        ([{"data": "a"}], "`inputs[0].model`: Field required"),
    ],
    ids=["images and texts", "an object", "no text", "another kind", "no model"],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(inputs: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(sentence)):
        _job(*inputs)


@pytest.mark.parametrize("inputs", [[], [_input("")]])
def test_there_is_no_vector_of_nothing(inputs: list[dict[str, Any]]) -> None:
    with pytest.raises(EmptyInput):
        _job(*inputs)


def test_a_refusal_is_a_400_with_the_string_that_qdrant_shows() -> None:
    status, body = PLUGIN.render_error(InvalidRequest("no"))

    assert (status, body["error"]) == (400, "no")
