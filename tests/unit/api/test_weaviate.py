"""Weaviate's dialect: what its Go modules send and decode."""

from typing import Any

import pytest

from api.catalog import Catalog
from api.dialects.weaviate import PLUGIN, Meta
from api.settings import ApiSettings
from shared.errors import EmptyInput, InputTooLong, MillraceError, Unavailable
from shared.jobs import EmbedRequest, RerankRequest
from shared.results import Kind
from tests.helpers.dialects import answered, parsed, rendered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output
from tests.helpers.recorded import RECORDED

ONE, SEVERAL, RERANK = PLUGIN.routes
VIEWS = {view.path: view for view in PLUGIN.views}


def test_a_text_comes_back_with_its_vector_and_its_length() -> None:
    _, body = RECORDED["Weaviate, vector"]

    answer = rendered(ONE, output([[0.5, 1.0]]), **body)

    assert answer == {"text": "a", "dims": 2, "vector": [0.5, 1.0]}


def test_several_texts_come_back_as_vectors_in_order() -> None:
    _, body = RECORDED["Weaviate, vectors"]

    assert rendered(SEVERAL, output([[0.5, 1.0], [0.25, -1.0]]), **body) == {
        "vectors": [[0.5, 1.0], [0.25, -1.0]],
        "dims": 2,
    }
    assert answered(SEVERAL, **body)["dims"] == 8


@pytest.mark.parametrize(
    ("config", "input_type", "dimensions"),
    [
        (None, None, None),
        ({}, None, None),
        ({"task_type": "query"}, "query", None),
        ({"task_type": "passage", "dimensions": 8}, "document", 8),
        ({"task_type": "", "dimensions": 0, "pooling_strategy": "cls"}, None, None),
    ],
)
def test_the_type_of_task_chooses_the_prompt(config: Any, input_type: str | None, dimensions: int | None) -> None:
    for route, text in ((ONE, {"text": "a"}), (SEVERAL, {"texts": ["a"]})):
        assert parsed(route, **text, config=config) == EmbedRequest(
            request_id="req-1", deadline=12.5, texts=["a"], input_type=input_type, dimensions=dimensions
        )


def test_scores_are_in_the_order_of_the_documents() -> None:
    _, body = RECORDED["Weaviate, rerank"]

    answer = rendered(RERANK, output([0.25, 0.75]), **{**body, "property": "content"})

    assert answer == {
        "query": "q",
        "property": "content",
        "scores": [{"document": "a", "score": 0.25}, {"document": "b", "score": 0.75}],
    }


def test_an_object_without_the_property_is_ranked_by_an_empty_text() -> None:
    assert parsed(RERANK, query="q", documents=["a", ""], property="") == RerankRequest(
        request_id="req-1", deadline=12.5, query="q", documents=["a", ""]
    )


@pytest.mark.parametrize(
    ("body", "is_weaviates"),
    [
        ({"query": "q", "documents": ["a"], "property": ""}, True),
        ({"query": "q", "documents": ["a"], "property": "", "model": "m"}, False),
        ({"query": "q", "documents": ["a"]}, False),
    ],
)
def test_only_weaviate_names_a_property_and_no_model(body: dict[str, Any], is_weaviates: bool) -> None:
    assert RERANK.claims(body) is is_weaviates


@pytest.mark.parametrize("texts", [{"texts": []}, {"texts": ["a", ""]}])
def test_there_is_no_vector_of_nothing(texts: dict[str, Any]) -> None:
    with pytest.raises(EmptyInput):
        parsed(SEVERAL, **texts)


@pytest.mark.parametrize("error", [InputTooLong("too long"), Unavailable("away"), MillraceError("oh")])
def test_an_error_is_a_string_which_is_all_that_go_decodes(error: MillraceError) -> None:
    status, body = PLUGIN.render_error(error)

    assert status == error.status
    assert body["error"] == error.message


def test_it_is_alive_before_it_is_ready() -> None:
    missing = Catalog([config("one"), config("two")], fleet_of())
    some = Catalog([config("one"), config("two")], fleet_of(card("one")))
    live, ready = VIEWS["/.well-known/live"], VIEWS["/.well-known/ready"]

    assert live.render(missing, ApiSettings(), {}) == {}
    assert ready.render(some, ApiSettings(), {}) == {}
    with pytest.raises(Unavailable, match="no worker has run these models yet: one, two"):
        ready.render(missing, ApiSettings(), {})


def test_meta_describes_the_model_that_embeds() -> None:
    models = [config("rank"), config("embed")]
    cards = card("rank", "reranker"), card("embed", kinds=[Kind.DENSE], dimensions=384, pooling="mean")

    shown = VIEWS["/meta"].render(Catalog(models, fleet_of(*cards)), ApiSettings(), {})
    before = VIEWS["/meta"].render(Catalog(models, fleet_of()), ApiSettings(), {})

    assert (shown["model"], shown["dimensions"], shown["pooling"]) == ("embed", 384, "mean")
    assert Meta.model_validate(shown)
    assert Meta.model_validate(before)
