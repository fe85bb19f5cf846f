"""Cohere's dialect: what its clients send, and what they read."""

import base64
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api.dialects.cohere import PLUGIN
from shared.errors import EmptyInput, InvalidRequest, ModelNotFound, Overloaded
from shared.jobs import EmbedRequest, RerankRequest
from tests.helpers.dialects import answered, job, parsed, rendered
from tests.helpers.outputs import output

ROUTES = {route.paths[0]: route for route in PLUGIN.routes}
RERANK, EMBED_1, EMBED_2 = ROUTES["/v1/rerank"], ROUTES["/v1/embed"], ROUTES["/v2/embed"]


def _embed(**fields: Any) -> EmbedRequest:
    request = parsed(EMBED_2, **fields)
    assert isinstance(request, EmbedRequest)
    return request


def _rerank(scores: list[float], **fields: Any) -> Any:
    return rendered(RERANK, output(scores), query="q", **fields)


def test_the_routes_are_those_that_everybodys_clients_call() -> None:
    cohere, kserve, llama_cpp = ["/v1/rerank", "/v2/rerank"], ["/v3/rerank", "/openai/v1/rerank"], ["/v1/reranking"]
    assert set(RERANK.paths) == {*cohere, *kserve, *llama_cpp, "/rerank", "/reranking"}


def test_documents_may_be_texts_or_objects_with_a_text() -> None:
    assert parsed(RERANK, query="q", documents=["a", {"text": "b", "id": 5}]) == RerankRequest(
        request_id="req-1", deadline=12.5, query="q", documents=["a", "b"], truncate=True, raw_scores=False
    )


@pytest.mark.parametrize(
    "fields",
    [{}, {"query": "q"}, {"query": "q", "documents": [5]}, {"query": "q", "documents": {"text": "a"}}],
    ids=str,
)
def test_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RERANK.body.model_validate(fields)


def test_results_are_best_first_and_point_to_the_documents_as_given() -> None:
    answer = _rerank([0.25, 0.75, 0.5], documents=["a", "b", "c"])

    assert answer["results"] == [
        {"index": 1, "relevance_score": 0.75},
        {"index": 2, "relevance_score": 0.5},
        {"index": 0, "relevance_score": 0.25},
    ]
    assert answer["model"] == "own/name"


def test_an_answer_has_what_all_of_the_clients_read() -> None:
    answer = answered(RERANK, query="q", documents=["a", "b"])

    assert answer["object"] == "rerank"  # Infinity's refuses another
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}  # Jina's and vLLM's
    assert answer["meta"] == {  # Cohere's
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 6},
    }
    assert {"id", "created", "model"} < set(answer)


@pytest.mark.parametrize("yes", [True, "true"])
@pytest.mark.parametrize("no", [False, "false", None])
def test_documents_are_repeated_when_asked_in_the_form_in_which_they_came(yes: Any, no: Any) -> None:
    documents = ["a", {"text": "b", "id": 5}]

    answer = _rerank([0.25, 0.75], documents=documents, return_documents=yes)
    assert [result["document"] for result in answer["results"]] == [{"text": "b", "id": 5}, {"text": "a"}]
    answer = _rerank([0.25, 0.75], documents=documents, return_documents=no)
    assert all("document" not in result for result in answer["results"])


def test_a_returned_document_with_fields_of_its_own_has_the_text_that_was_read() -> None:
    answer = _rerank([0.5], documents=[{"title": "a"}], rank_fields=["title"], return_documents=True)

    assert answer["results"][0]["document"] == {"title": "a", "text": "a"}


def test_cut_documents_are_told_among_the_warnings() -> None:
    answer = rendered(RERANK, output([0.5, 0.75], truncated=1), query="q", documents=["a", "b"])

    assert answer["meta"]["warnings"] == ["1 of the inputs was longer than the model takes and cut"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"truncate": True, "truncation_side": "right", "input_type": None, "precisions": ["float32"]}),
        ({"truncate": None}, {"truncate": True, "truncation_side": "right"}),
        ({"truncate": "NONE"}, {"truncate": False}),
        ({"truncate": "START"}, {"truncate": True, "truncation_side": "left"}),
        ({"truncate": "END"}, {"truncate": True, "truncation_side": "right"}),
        ({"input_type": "search_query"}, {"input_type": "query"}),
        ({"input_type": "search_document"}, {"input_type": "document"}),
        ({"input_type": "clustering"}, {"input_type": None, "prompt_names": ["clustering", "Clustering"]}),
        ({"output_dimension": 8}, {"dimensions": 8}),
        ({"embedding_types": ["float", "base64", "int8"]}, {"precisions": ["float32", "int8"]}),
    ],
    ids=str,
)
def test_an_embed_request_carries_coheres_options(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = _embed(texts=["a"], **fields)

    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "texts", "images"),
    [
        ({"texts": ["a", "b"]}, ["a", "b"], None),
        ({"images": ["data:image/png;base64,AA=="], "input_type": "image"}, [""], ["data:image/png;base64,AA=="]),
        ({"inputs": [{"content": [{"type": "text", "text": "a"}]}]}, ["a"], None),
        ({"inputs": [{"content": [{"type": "image_url", "image_url": {"url": "i"}}]}]}, [""], ["i"]),
        ({"inputs": [{"content": [{"text": "a"}, {"image_url": {"url": "i"}}]}]}, ["a"], ["i"]),
    ],
    ids=["texts", "images", "a text", "an image", "both"],
)
def test_inputs_are_texts_images_or_made_of_parts(fields: dict[str, Any], texts: list[str], images: Any) -> None:
    parsed_job = job(EMBED_2, **fields)

    assert parsed_job.images == images
    assert [request.texts for request in parsed_job.requests if isinstance(request, EmbedRequest)] == [texts]


@pytest.mark.parametrize("fields", [{}, {"texts": ["a"], "images": ["i"]}, {"texts": None}], ids=str)
def test_exactly_one_kind_of_inputs_is_taken(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"exactly one of `texts`, `images` and `inputs`"):
        _embed(**fields)


@pytest.mark.parametrize(
    ("fields", "where"),
    [({"texts": []}, "texts"), ({"texts": ["a", ""]}, "texts"), ({"inputs": []}, "inputs")],
    ids=str,
)
def test_empty_inputs_are_refused_by_the_name_of_their_field(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput, match=f"`{where}") as raised:
        _embed(**fields)

    assert raised.value.param == where


def test_parts_that_are_nothing_are_refused_by_the_name_of_their_field() -> None:
    with pytest.raises(InvalidRequest) as raised:
        _embed(inputs=[{"content": []}])

    assert raised.value.param == "inputs"


@pytest.mark.parametrize(("truncate", "cuts"), [("END", True), ("NONE", False)])
def test_a_text_may_be_shorter_than_the_model_takes(truncate: str, cuts: bool) -> None:
    request = _embed(texts=["a"], max_tokens=64, truncate=truncate)

    assert (request.max_tokens, request.truncate) == (64, cuts)


def test_version_2_answers_by_type_and_tells_which_form_it_is() -> None:
    answer = answered(EMBED_2, texts=["a", "b"])

    assert answer["response_type"] == "embeddings_by_type"
    assert list(answer["embeddings"]) == ["float"]
    assert len(answer["embeddings"]["float"]) == 2
    assert answer["texts"] == ["a", "b"]


def test_version_1_answers_bare_floats_until_types_are_named() -> None:
    bare, by_type = answered(EMBED_1, texts=["a"]), answered(EMBED_1, texts=["a"], embedding_types=["float"])

    assert (bare["response_type"], by_type["response_type"]) == ("embeddings_floats", "embeddings_by_type")
    assert bare["embeddings"] == by_type["embeddings"]["float"]
    assert bare["meta"]["api_version"] == {"version": "1"}


def test_several_types_are_the_same_vectors_in_each_form() -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]

    embeddings = answered(EMBED_2, texts=["a", "b"], embedding_types=types, output_dimension=16)["embeddings"]

    assert list(embeddings) == types
    floats = np.array(embeddings["float"], np.float32)
    np.testing.assert_array_equal(embeddings["ubinary"], np.packbits(floats > 0, axis=1))
    np.testing.assert_array_equal(np.array(embeddings["ubinary"]) - 128, embeddings["binary"])
    np.testing.assert_array_equal(np.array(embeddings["uint8"]) - 128, embeddings["int8"])
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in embeddings["base64"]]
    np.testing.assert_array_equal(decoded, floats)


@pytest.mark.parametrize("route", [EMBED_1, EMBED_2], ids=["v1", "v2"])
def test_billed_units_are_always_there_as_the_older_clients_read_them_unasked(route: Any) -> None:
    assert answered(route, texts=["a", "b"])["meta"]["billed_units"] == {"input_tokens": 6}
    assert answered(route, images=["i"])["meta"]["billed_units"] == {"input_tokens": 3, "images": 1}


@pytest.mark.parametrize(("error", "status"), [(EmptyInput(), 400), (ModelNotFound(), 404), (Overloaded(), 429)])
def test_an_error_has_the_message_where_coheres_client_reads_it(error: Any, status: int) -> None:
    given, body = PLUGIN.render_error(error)

    assert given == status
    assert body["message"] == error.message
