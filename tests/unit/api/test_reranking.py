"""The rerank body that Cohere's, Jina's, vLLM's and Infinity's clients share: each one's options, in each one's words."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

import api.core
from api import wire
from api.app import create_app
from api.dialect import Answer
from api.dialects.cohere import PLUGIN
from api.dispatch import Dispatcher
from api.reranking import RerankBody
from api.schemas import standalone
from api.settings import ApiSettings
from shared.errors import EmptyInput, InvalidRequest
from shared.jobs import RerankRequest
from shared.results import Output
from tests.helpers.dialects import CONTEXT, answered, parsed, rendered
from tests.helpers.json_schema import fits
from tests.helpers.outputs import output

ROUTE = PLUGIN.routes[0]


def _parse(**fields: Any) -> RerankRequest:
    request = parsed(ROUTE, **{"query": "q", "documents": ["a", "b"], **fields})
    assert isinstance(request, RerankRequest)
    return request


def test_null_is_absent_in_every_optional_field() -> None:
    nulls = dict.fromkeys(name for name, field in RerankBody.model_fields.items() if not field.is_required())

    assert _parse(**nulls) == _parse()
    assert len(answered(ROUTE, query="q", documents=["a", "b"], **nulls)["results"]) == 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"raw_scores": False, "truncate": True, "truncation_side": "right"}),
        ({"raw_scores": True}, {"raw_scores": True}),
        ({"use_activation": False}, {"raw_scores": True}),
        ({"use_activation": True, "raw_scores": False}, {"raw_scores": False}),
        ({"truncate": False}, {"truncate": False}),
        ({"truncation": False, "top_n": 1}, {"truncate": False}),
        ({"truncation_side": "left"}, {"truncation_side": "left"}),
        ({"instruction": "find"}, {"instruction": "find"}),
        ({"instruction": "find", "chat_template_kwargs": {"instruction": "judge"}}, {"instruction": "judge"}),
        (
            {"max_tokens_per_doc": 4096, "max_tokens_per_query": 0, "max_chunks_per_doc": 10},
            {"documents": ["a", "b"], "max_document_tokens": 4096},
        ),
        ({"truncate_prompt_tokens": 128}, {"max_tokens": 128, "max_document_tokens": None}),
        ({"query": {"text": "q"}, "documents": [{"text": "a"}, "b"]}, {"query": "q", "documents": ["a", "b"]}),
        ({"documents": [{"title": "a", "year": 1}], "rank_fields": ["year", "title"]}, {"documents": ["1\na"]}),
    ],
    ids=str,
)
def test_every_clients_words_ask_for_the_same(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = _parse(**fields)

    assert {name: getattr(request, name) for name in expected} == expected


def test_a_field_that_is_named_again_is_read_once() -> None:
    document = {"title": "mill " * 1000, "year": 1}

    assert _parse(documents=[document], rank_fields=["year", "title"] * 16).documents == [f"1\n{document['title']}"]


def test_more_fields_than_anybody_has_are_refused_by_name() -> None:
    body = {"query": "q", "documents": [{"a": 1}], "rank_fields": ["a"] * 33}

    with pytest.raises(InvalidRequest, match=r"^`rank_fields`: List should have at most 32 items") as raised:
        wire.validated(ROUTE.body, body)

    assert raised.value.param == "rank_fields"
    assert not fits(body, standalone(ROUTE.body))
    assert fits({**body, "rank_fields": ["a"] * 32}, standalone(ROUTE.body))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"raw_scores": True, "use_activation": True}, "`raw_scores` and `use_activation` contradict each other"),
        ({"chat_template_kwargs": {"tools": []}}, "`chat_template_kwargs` may have an `instruction`"),
        ({"chat_template_kwargs": {"instruction": 5}}, "`chat_template_kwargs` may have an `instruction`"),
        ({"documents": ["a", {"title": "b"}]}, r"`documents\[1\]` has no text"),
        ({"query": {"image": "i"}}, "`query` has no text"),
    ],
    ids=str,
)
def test_what_contradicts_itself_or_is_not_served_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{said}"):
        _parse(**fields)


def test_the_query_is_never_cut_and_a_length_for_it_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_tokens_per_query"):
        _parse(max_tokens_per_query=64)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"query": {"text": ""}}, "query"),
    ],
)
def test_an_empty_query_and_no_documents_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        _parse(**fields)

    assert raised.value.param == where


@pytest.mark.parametrize(
    "fields",
    [
        {"documents": ["a", ""]},
        {"documents": ["a", {"text": ""}]},
        {"documents": [{"title": "a"}, {"title": ""}], "rank_fields": ["title"]},
    ],
    ids=str,
)
def test_an_empty_document_is_scored_like_any_other(fields: dict[str, Any]) -> None:
    assert _parse(**fields).documents == ["a", ""]
    assert fits({"query": "q", **fields}, standalone(ROUTE.body))


@pytest.mark.parametrize(("top_n", "count"), [(None, 3), (0, 3), (1, 1), (2, 2), (9, 3)])
def test_top_n_is_how_many_and_null_0_and_too_many_mean_all(top_n: int | None, count: int) -> None:
    answer = rendered(ROUTE, output([0.25, 0.75, 0.5]), query="q", documents=["a", "b", "c"], top_n=top_n)

    assert [result["index"] for result in answer["results"]] == [1, 2, 0][:count]


def test_equal_scores_keep_the_order_of_the_documents() -> None:
    answer = rendered(ROUTE, output([0.5, 0.75, 0.5, 0.75]), query="q", documents=["a", "b", "c", "d"])

    assert [result["index"] for result in answer["results"]] == [1, 3, 0, 2]


@pytest.mark.parametrize(("said", "returned"), [(None, True), (True, True), (False, False), ("false", False)])
def test_a_server_may_return_documents_where_the_request_does_not_say(said: Any, returned: bool) -> None:
    body = ROUTE.body.model_validate({"query": "q", "documents": ["a"], "return_documents": said})

    ROUTE.parse(body, replace(CONTEXT, return_documents=True))
    rows = ROUTE.render(body, Answer("r", "m", [output([0.5])], 0.5, ["m"]))["results"]

    assert [row.get("document") for row in rows] == [{"text": "a"} if returned else None]


def test_the_gateways_setting_reaches_its_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scoring(Dispatcher):
        async def run(self, *_: object) -> Output:
            return output([0.5, 0.25])

    monkeypatch.setattr(api.core, "Dispatcher", Scoring)
    asked = {"query": "q", "documents": ["a", "b"]}

    by_default = TestClient(create_app(ApiSettings())).post("/v1/rerank", json=asked).json()
    returning = TestClient(create_app(ApiSettings(return_documents=True))).post("/v1/rerank", json=asked).json()

    assert "document" not in by_default["results"][0]
    assert returning["results"][0]["document"] == {"text": "a"}
