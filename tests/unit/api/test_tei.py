"""TEI's dialect: parse, render, render_error."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api.catalog import Catalog
from api.dialect import Context, Route
from api.dialects.tei import PLUGIN
from api.settings import ApiSettings
from shared.errors import (
    BatchTooLarge,
    BodyTooLarge,
    DeadlineExceeded,
    EmptyInput,
    InferenceFailed,
    InputTooLong,
    InvalidRequest,
    MillraceError,
    ModelNotFound,
    Overloaded,
    Unavailable,
    WorkerLost,
    WrongTask,
)
from shared.jobs import ClassifyRequest, EmbedRequest, RerankRequest
from shared.results import Kind, Output, Ragged
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output

CONTEXT = Context(request_id="req-1", deadline=12.5)
ROUTES = {route.path: route for route in PLUGIN.routes}
EMBED, RERANK = ROUTES["/embed"], ROUTES["/rerank"]
PREDICT, EMBED_SPARSE = ROUTES["/predict"], ROUTES["/embed_sparse"]


def _parse(route: Route, **fields: Any) -> Any:
    return PLUGIN.parse(route, route.body.model_validate(fields), CONTEXT).request


def _render(route: Route, output_: Any, **fields: Any) -> Any:
    return json.loads(PLUGIN.render(route, route.body.model_validate(fields), output_, "m"))


@pytest.mark.parametrize("route", PLUGIN.routes, ids=lambda route: route.path)
def test_the_documented_example_is_valid(route: Route) -> None:
    PLUGIN.parse(route, route.body.model_validate(route.example), CONTEXT)


def test_a_text_and_a_list_of_texts_are_both_accepted() -> None:
    assert list(_parse(EMBED, inputs="one").texts) == ["one"]
    assert list(_parse(EMBED, inputs=["one", "two"]).texts) == ["one", "two"]


def test_an_embed_request_carries_all_of_teis_options() -> None:
    assert _parse(EMBED, inputs="a", truncate=False, normalize=False, dimensions=8) == EmbedRequest(
        request_id="req-1", deadline=12.5, texts=["a"], truncate=False, normalize=False, dimensions=8
    )


@pytest.mark.parametrize("truncate", [None, True])
def test_texts_are_truncated_unless_it_is_forbidden(truncate: bool | None) -> None:
    assert _parse(EMBED, inputs="a", truncate=truncate).truncate
    assert _parse(RERANK, query="q", texts=["a"], truncate=truncate).truncate


def test_a_rerank_request_carries_all_of_teis_options() -> None:
    assert _parse(RERANK, query="q", texts=["a", "b"], truncate=False, raw_scores=True) == RerankRequest(
        request_id="req-1", deadline=12.5, query="q", documents=["a", "b"], truncate=False, raw_scores=True
    )


@pytest.mark.parametrize("fields", [{"inputs": ""}, {"inputs": []}, {"inputs": ["a", ""]}])
def test_empty_inputs_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EmptyInput, match="`inputs"):
        _parse(EMBED, **fields)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"query": "", "texts": ["a"]}, "query"),
        ({"query": "q", "texts": []}, "texts"),
        ({"query": "q", "texts": [""]}, "texts"),
    ],
)
def test_an_empty_query_and_empty_texts_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        _parse(RERANK, **fields)

    assert raised.value.param == where


@pytest.mark.parametrize("dimensions", [0, -1])
def test_dimensions_must_be_positive(dimensions: int) -> None:
    with pytest.raises(InvalidRequest, match="should be positive"):
        _parse(EMBED, inputs="a", dimensions=dimensions)


@pytest.mark.parametrize("fields", [{}, {"inputs": 5}, {"inputs": [5]}, {"inputs": "a", "normalize": "perhaps"}])
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EMBED.body.model_validate(fields)


def test_vectors_are_a_bare_list_of_lists() -> None:
    assert _render(EMBED, output([[0.5, 1.0], [0.25, -1.0]]), inputs=["a", "b"]) == [[0.5, 1.0], [0.25, -1.0]]


def test_ranks_are_a_bare_list_best_first() -> None:
    ranks = _render(RERANK, output([0.25, 0.75]), query="q", texts=["a", "b"])

    assert ranks == [{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}]


def test_ranks_repeat_their_text_when_asked() -> None:
    ranks = _render(RERANK, output([0.25, 0.75]), query="q", texts=["a", "b"], return_text=True)

    assert [rank["text"] for rank in ranks] == ["b", "a"]


def test_only_the_best_few_ranks_are_returned_when_asked() -> None:
    ranks = _render(RERANK, output([0.25, 0.75, 0.5]), query="q", texts=["a", "b", "c"], top_n=2)

    assert [rank["index"] for rank in ranks] == [1, 2]


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (EmptyInput(), 400, "Empty"),
        (ModelNotFound(), 404, "Validation"),
        (BatchTooLarge(), 413, "Validation"),
        (BodyTooLarge(), 413, "Validation"),
        (InvalidRequest(), 422, "Validation"),
        (InputTooLong(), 422, "Validation"),
        (WrongTask(), 424, "Backend"),
        (InferenceFailed(), 424, "Backend"),
        (WorkerLost(), 424, "Backend"),
        (Overloaded(), 429, "Overloaded"),
        (Unavailable(), 503, "Unhealthy"),
        (DeadlineExceeded(), 504, "Backend"),
        (MillraceError(), 500, "Backend"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MillraceError) else str(value),
)
def test_an_error_has_teis_status_and_type(error: MillraceError, status: int, error_type: str) -> None:
    given, body = PLUGIN.render_error(error)

    assert (given, body["error_type"], body["type"]) == (status, error_type, error_type)
    assert body["error"] == body["message"] == body["detail"] == error.message
    assert body["code"] == error.code


def test_info_describes_the_first_model_as_its_worker_does() -> None:
    # Given
    catalog = Catalog([config("small")], fleet_of(card("small", pooling="mean", max_tokens=512)))
    (view,) = PLUGIN.views

    # When
    info = view.render(catalog, ApiSettings(max_client_batch_size=33))

    # Then
    assert view.path == "/info"
    assert info["model_id"] == "small"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (512, 33)


def test_info_says_reranker_for_a_reranker() -> None:
    catalog = Catalog([config("rank")], fleet_of(card("rank", "reranker")))

    assert list(PLUGIN.views[0].render(catalog, ApiSettings())["model_type"]) == ["reranker"]


def test_info_answers_before_any_worker_does() -> None:
    info = PLUGIN.views[0].render(Catalog([config("small")], fleet_of()), ApiSettings())

    assert (info["model_id"], info["max_input_length"]) == ("small", None)


@pytest.mark.parametrize(
    ("inputs", "texts", "seconds"),
    [
        ("a", ["a"], [None]),
        (["a"], ["a"], [None]),
        (["a", "b"], ["a"], ["b"]),
        ([["a"], ["b", "c"]], ["a", "b"], [None, "c"]),
    ],
    ids=["a text", "a text in a list", "a pair", "a batch of both"],
)
def test_predict_reads_texts_and_pairs_as_tei_does(inputs: Any, texts: list[str], seconds: list[str | None]) -> None:
    assert _parse(PREDICT, inputs=inputs, raw_scores=True) == ClassifyRequest(
        request_id="req-1", deadline=12.5, texts=texts, seconds=seconds, raw_scores=True
    )


@pytest.mark.parametrize("inputs", [[], [[]], ["a", "b", "c"], [["a", "b", "c"]], [["a"], "b"]], ids=str)
def test_predict_refuses_other_shapes(inputs: Any) -> None:
    with pytest.raises(ValidationError):
        PREDICT.body.model_validate({"inputs": inputs})


@pytest.mark.parametrize("inputs", ["a", ["a", "b"]], ids=["a text", "a pair"])
def test_the_labels_of_one_text_or_pair_are_one_list_best_first(inputs: Any) -> None:
    scored = replace(output([[0.25, 0.75]]), labels=("no", "yes"))

    assert _render(PREDICT, scored, inputs=inputs) == [{"score": 0.75, "label": "yes"}, {"score": 0.25, "label": "no"}]


def test_the_labels_of_a_batch_are_a_list_for_each_entry() -> None:
    scored = replace(output([[0.25, 0.75], [1.0, 0.0]]), labels=("no", "yes"))

    answer = _render(PREDICT, scored, inputs=[["a"], ["b", "c"]])

    assert [[label["label"] for label in labels] for labels in answer] == [["yes", "no"], ["no", "yes"]]


def test_sparse_vectors_are_lists_of_entries_and_may_be_empty() -> None:
    # Given two texts, the second without an entry
    sparse = Ragged(
        counts=np.array([2, 0], "<i4").tobytes(),
        values=np.array([0.5, 0.25], "<f4").tobytes(),
        width=1,
        indices=np.array([7, 9], "<i4").tobytes(),
    )

    # Then
    answer = _render(EMBED_SPARSE, Output(shape=(2, 0), data=b"", tokens=5, sparse=sparse), inputs=["a", "b"])
    assert answer == [[{"index": 7, "value": 0.5}, {"index": 9, "value": 0.25}], []]


def test_a_request_for_sparse_vectors_asks_for_them_only() -> None:
    assert list(_parse(EMBED_SPARSE, inputs="a").kinds) == [Kind.SPARSE]


def test_a_vector_for_each_token_is_a_list_of_lists() -> None:
    # Given two texts of two tokens and one
    vectors = Ragged(counts=np.array([2, 1], "<i4").tobytes(), values=np.arange(6, dtype="<f4").tobytes(), width=2)

    # Then
    answer = _render(
        ROUTES["/embed_all"], Output(shape=(2, 0), data=b"", tokens=3, multivector=vectors), inputs=["a", "b"]
    )
    assert answer == [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0]]]
    assert list(_parse(ROUTES["/embed_all"], inputs="a").kinds) == [Kind.MULTIVECTOR]
