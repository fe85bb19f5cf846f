"""Hugging Face's dialect: what the body asks for on the bare URL, or else what the model is made for."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from api import wire
from api.catalog import Catalog
from api.dialect import Answer, Context, Job, Route
from api.dialects.huggingface import PLUGIN
from api.endpoint import choose
from shared.errors import EmptyInput, InvalidRequest, WrongTask
from shared.jobs import ClassifyRequest, EmbedRequest, RerankRequest
from shared.model_card import ModelCard
from shared.results import Kind, Output, Ragged
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output
from tests.helpers.recorded import RECORDED

CONTENDERS = [(PLUGIN, route) for route in PLUGIN.routes]
RECORDED_HERE = {who: body for who, (path, body) in RECORDED.items() if path in {"/", "/invocations"}}


def _chosen(body: dict[str, Any]) -> Route:
    return choose(CONTENDERS, body)[1]


def _context(*cards: ModelCard) -> Context:
    return Context("req-1", 12.5, Catalog([config(each.name) for each in cards] or [config("m")], fleet_of(*cards)))


def _job(body: dict[str, Any], *cards: ModelCard) -> Job:
    route = _chosen(body)
    return route.parse(wire.validated(route.body, body), _context(*cards))


def _rendered(body: dict[str, Any], answer: Output) -> Any:
    route = _chosen(body)
    return json.loads(wire.dumps(route.render(route.body.model_validate(body), Answer("r", "m", [answer], 0.5, ["m"]))))


def test_the_paths_are_those_that_clients_are_given() -> None:
    assert all(set(route.paths) == {"/", "/invocations", "/pipeline/feature-extraction"} for route in PLUGIN.routes)


def test_options_may_come_in_parameters_too() -> None:
    options = {"normalize": False, "truncate": False, "truncation_direction": "left", "prompt_name": "query"}

    assert _job({"inputs": "a", "parameters": options}).requests == _job({"inputs": "a", **options}).requests
    assert _job({"inputs": "a", "parameters": None, "truncate": False}).requests == [
        EmbedRequest(request_id="req-1", deadline=12.5, texts=["a"], truncate=False)
    ]
    with pytest.raises(InvalidRequest, match=r"`truncate` and `parameters.truncate` contradict each other"):
        _job({"inputs": "a", "truncate": True, "parameters": {"truncate": False}})


@pytest.mark.parametrize("body", RECORDED_HERE.values(), ids=RECORDED_HERE.keys())
def test_what_clients_send_is_understood(body: dict[str, Any]) -> None:
    (request,) = _job(body).requests

    assert isinstance(request, EmbedRequest)


def test_inputs_are_embedded_with_the_options_that_come_beside_them() -> None:
    body = {
        "inputs": ["a", "b"],
        "normalize": False,
        "truncate": False,
        "truncation_direction": "left",
        "dimensions": 8,
        "prompt_name": "query",
    }

    assert _job(body, card("m", kinds=[Kind.DENSE])).requests == [
        EmbedRequest(
            request_id="req-1",
            deadline=12.5,
            texts=["a", "b"],
            normalize=False,
            truncate=False,
            truncation_side="left",
            dimensions=8,
            prompt_name="query",
        )
    ]
    assert _rendered(body, output([[0.5, 1.0], [0.25, -1.0]])) == [[0.5, 1.0], [0.25, -1.0]]


def test_a_source_sentence_asks_for_similarities() -> None:
    body = {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}}

    (request,) = _job(body).requests

    assert isinstance(request, EmbedRequest)
    assert request.texts == ["a", "b"]
    assert _rendered(body, output([[1.0, 0.0], [0.6, 0.8]])) == pytest.approx([0.6])


def test_a_query_with_texts_is_reranked_whatever_the_model_is_made_for() -> None:
    body = {"query": "q", "texts": ["a", "b"]}

    (request,) = _job(body, card("m", kinds=[Kind.DENSE])).requests

    assert isinstance(request, RerankRequest)
    assert _rendered(body, output([0.25, 0.75])) == [{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}]


def test_a_classifier_labels_its_inputs() -> None:
    body = {"inputs": [["a"], ["b", "c"]], "raw_scores": True}

    (request,) = _job(body, card("m", model_type="classifier")).requests

    assert request == ClassifyRequest(
        request_id="req-1", deadline=12.5, texts=["a", "b"], seconds=[None, "c"], raw_scores=True
    )
    scored = replace(output([[0.25, 0.75], [1.0, 0.0]]), labels=("no", "yes"))
    assert [labels[0]["label"] for labels in _rendered(body, scored)] == ["yes", "no"]
    single = replace(output([[0.25, 0.75]]), labels=("no", "yes"))
    assert [label["label"] for label in _rendered({"inputs": "a"}, single)] == ["yes", "no"]


@pytest.mark.parametrize("kind", [Kind.SPARSE, Kind.MULTIVECTOR])
def test_a_model_without_dense_vectors_makes_its_own(kind: Kind) -> None:
    (request,) = _job({"inputs": "a", "truncate": False}, card("m", kinds=[kind])).requests

    assert isinstance(request, EmbedRequest)
    assert (request.kinds, request.truncate) == ([kind], False)


def test_sparse_vectors_and_a_vector_for_each_token_are_rendered_as_teis_routes_do() -> None:
    counts, values = np.array([1], "<i4").tobytes(), np.array([0.5], "<f4").tobytes()
    sparse = Ragged(counts, values, 1, np.array([7], "<i4").tobytes())

    assert _rendered({"inputs": "a"}, Output(shape=(1, 0), data=b"", tokens=2, sparse=sparse)) == [
        [{"index": 7, "value": 0.5}]
    ]
    tokens = Output(shape=(1, 0), data=b"", tokens=2, multivector=Ragged(counts, values, 1))
    assert _rendered({"inputs": "a"}, tokens) == [[[0.5]]]


def test_behind_a_reranker_inputs_mean_the_model_that_embeds() -> None:
    (request,) = _job({"inputs": "a"}, card("rank", "reranker"), card("embed", kinds=[Kind.DENSE])).requests

    assert isinstance(request, EmbedRequest)


def test_a_reranker_alone_says_what_it_takes() -> None:
    with pytest.raises(WrongTask, match="model rank reranks: send `query` and `texts`"):
        _job({"inputs": "a"}, card("rank", "reranker"))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"inputs": [["a", "b"]]}, r"`inputs\[0\]\[0\]`: "),
        ({"inputs": 5}, "`inputs`: "),
        ({"inputs": "a", "texts": ["b"]}, "exactly one of these fields: inputs, texts"),
        ({"model": "m"}, "exactly one of these fields: inputs, texts"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        _job(body, card("m", kinds=[Kind.DENSE]))


def test_an_error_is_a_string_that_the_client_shows() -> None:
    status, body = PLUGIN.render_error(EmptyInput("`inputs` cannot be empty"))

    assert (status, body["error"]) == (400, "`inputs` cannot be empty")
