"""Cohere's dialect: parse, render, render_error."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from api.dialect import Context, Route
from api.dialects.cohere import PLUGIN, RerankResponse
from shared.errors import EmptyInput, ModelNotFound, Overloaded
from shared.jobs import RerankRequest
from tests.helpers.outputs import output

CONTEXT = Context(request_id="req-1", deadline=12.5)
ROUTE = PLUGIN.routes[0]


def _parse(**fields: Any) -> Any:
    return PLUGIN.parse(ROUTE, ROUTE.body.model_validate(fields), CONTEXT).request


def _render(scores: list[float], **fields: Any) -> Any:
    return json.loads(PLUGIN.render(ROUTE, ROUTE.body.model_validate(fields), output(scores), "own/name"))


def test_the_routes_are_those_that_coheres_and_jinas_clients_call() -> None:
    assert {route.path for route in PLUGIN.routes} == {"/rerank", "/v1/rerank", "/v2/rerank"}


@pytest.mark.parametrize("route", PLUGIN.routes, ids=lambda route: route.path)
def test_the_documented_example_is_valid(route: Route) -> None:
    PLUGIN.parse(route, route.body.model_validate(route.example), CONTEXT)


def test_documents_may_be_texts_or_objects_with_a_text() -> None:
    assert _parse(query="q", documents=["a", {"text": "b", "id": 5}]) == RerankRequest(
        request_id="req-1", deadline=12.5, query="q", documents=["a", "b"], truncate=True, raw_scores=False
    )


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": ["a", {"text": ""}]}, "documents"),
    ],
)
def test_an_empty_query_and_empty_documents_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        _parse(**fields)

    assert raised.value.param == where


@pytest.mark.parametrize(
    "fields", [{}, {"query": "q"}, {"query": "q", "documents": [5]}, {"query": "q", "documents": [{"title": "a"}]}]
)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ROUTE.body.model_validate(fields)


def test_results_are_best_first_and_point_to_the_documents_as_given() -> None:
    # When
    answer = _render([0.25, 0.75, 0.5], query="q", documents=["a", "b", "c"])

    # Then
    RerankResponse.model_validate(answer)
    assert answer["results"] == [
        {"index": 1, "relevance_score": 0.75},
        {"index": 2, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.25},
    ]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert answer["model"] == "own/name"


def test_only_the_best_few_are_returned_when_asked() -> None:
    answer = _render([0.25, 0.75, 0.5], query="q", documents=["a", "b", "c"], top_n=1)

    assert [result["index"] for result in answer["results"]] == [1]


def test_documents_are_repeated_when_asked_whatever_form_they_came_in() -> None:
    answer = _render([0.25, 0.75], query="q", documents=["a", {"text": "b"}], return_documents=True)

    assert [result["document"] for result in answer["results"]] == [{"text": "b"}, {"text": "a"}]


@pytest.mark.parametrize(("error", "status"), [(EmptyInput(), 400), (ModelNotFound(), 404), (Overloaded(), 429)])
def test_an_error_has_the_message_where_coheres_client_reads_it(error: Any, status: int) -> None:
    given, body = PLUGIN.render_error(error)

    assert given == status
    assert body["message"] == error.message


def test_an_instruction_travels_with_the_request() -> None:
    body = ROUTE.body.model_validate({"query": "q", "documents": ["d"], "instruction": "find proof"})

    request = PLUGIN.parse(ROUTE, body, CONTEXT).request

    assert isinstance(request, RerankRequest)
    assert request.instruction == "find proof"
