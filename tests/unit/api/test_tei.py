"""TEI's dialect: parse, render, render_error."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from api import wire
from api.app import create_app
from api.catalog import Catalog
from api.dialect import Route
from api.dialects.tei import PLUGIN, Info
from api.settings import ApiSettings
from shared.errors import (
    BatchTooLarge,
    BodyTooLarge,
    DeadlineExceeded,
    EmptyInput,
    InferenceFailed,
    InputTooLong,
    InvalidJson,
    InvalidRequest,
    MillraceError,
    ModelNotFound,
    OutOfMemory,
    Overloaded,
    TokenInputUnsupported,
    Unavailable,
    WorkerLost,
    WrongTask,
)
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, RerankRequest, TokenizeRequest
from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.results import Kind, Output, Ragged, Token
from tests.helpers.dialects import CONTEXT, parsed, rendered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output

ROUTES = {route.paths[0]: route for route in PLUGIN.routes}
EMBED, RERANK = ROUTES["/embed"], ROUTES["/rerank"]
PREDICT, EMBED_SPARSE = ROUTES["/predict"], ROUTES["/embed_sparse"]


def _parse(route: Route, **fields: Any) -> Any:
    return parsed(route, **fields)


def _render(route: Route, output_: Any, **fields: Any) -> Any:
    return rendered(route, output_, **fields)


@pytest.mark.parametrize("route", PLUGIN.routes, ids=lambda route: route.paths[0])
def test_the_documented_example_is_valid(route: Route) -> None:
    parsed(route, **route.example)


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
    ],
)
def test_an_empty_query_and_no_texts_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        _parse(RERANK, **fields)

    assert raised.value.param == where


def test_an_empty_text_among_those_to_score_is_no_reason_to_refuse_the_others() -> None:
    assert _parse(RERANK, query="q", texts=["", "b"]).documents == ["", "b"]


@pytest.mark.parametrize("path", ["/embed", "/embed_sparse", "/embed_all", "/rerank", "/predict"])
@pytest.mark.parametrize(
    ("direction", "side"), [(None, "right"), ("Right", "right"), ("left", "left"), ("Left", "left")]
)
def test_texts_are_cut_at_the_side_that_is_asked_for(path: str, direction: str | None, side: str) -> None:
    inputs = {"query": "q", "texts": ["a"]} if path == "/rerank" else {"inputs": "a"}

    assert _parse(ROUTES[path], **inputs, truncation_direction=direction).truncation_side == side


def test_null_means_absent_in_every_optional_field() -> None:
    nulls = {"truncate": None, "truncation_direction": None, "model": None}

    assert _parse(EMBED, inputs="a", normalize=None, dimensions=None, prompt_name=None, **nulls) == _parse(
        EMBED, inputs="a"
    )
    rerank = {"query": "q", "texts": ["a"]}
    assert _parse(RERANK, **rerank, raw_scores=None, return_text=None, top_n=None, **nulls) == _parse(RERANK, **rerank)


def test_texts_to_score_may_be_objects_as_litellm_sends_them() -> None:
    fields = {"query": "q", "texts": [{"text": "a"}, "b"], "return_text": True}

    assert _parse(RERANK, **fields).documents == ["a", "b"]
    assert [rank["text"] for rank in _render(RERANK, output([0.25, 0.75]), **fields)] == ["b", "a"]


def test_ranks_have_no_key_that_elasticsearch_does_not_know() -> None:
    ranks = _render(RERANK, output([0.5]), query="q", texts=["a"], return_text=True)

    assert [set(rank) for rank in ranks] == [{"index", "score", "text"}]


SIMILARITY = ROUTES["/similarity"]
INPUTS = {"source_sentence": "s", "sentences": ["a", "b"]}


def test_similarities_are_cosines_with_the_source() -> None:
    # Given unit vectors of the source and of two sentences
    vectors = output([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])

    assert _render(SIMILARITY, vectors, inputs=INPUTS) == pytest.approx([0.6, 0.0])


def test_the_source_and_the_sentences_are_embedded_alike() -> None:
    request = _parse(
        SIMILARITY,
        inputs=INPUTS,
        parameters={"truncate": False, "truncation_direction": "Left", "prompt_name": "query"},
    )

    assert request == EmbedRequest(
        request_id="req-1",
        deadline=12.5,
        texts=["s", "a", "b"],
        truncate=False,
        truncation_side="left",
        prompt_name="query",
    )
    assert _parse(SIMILARITY, inputs=INPUTS, parameters={}) == _parse(SIMILARITY, inputs=INPUTS, parameters=None)


@pytest.mark.parametrize(
    ("inputs", "where"),
    [
        ({**INPUTS, "source_sentence": ""}, "inputs.source_sentence"),
        ({**INPUTS, "sentences": []}, "inputs.sentences"),
        ({**INPUTS, "sentences": ["a", ""]}, r"inputs.sentences\[1\]"),
    ],
)
def test_empty_sentences_are_not_compared(inputs: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput, match=where):
        _parse(SIMILARITY, inputs=inputs)


TOKENIZE, DECODE = ROUTES["/tokenize"], ROUTES["/decode"]


@pytest.mark.parametrize(("inputs", "texts"), [("a", ["a"]), (["a", ""], ["a", ""])])
def test_texts_to_tokenise_may_be_one_or_many_and_empty(inputs: Any, texts: list[str]) -> None:
    assert _parse(TOKENIZE, inputs=inputs, add_special_tokens=False, prompt_name="query") == TokenizeRequest(
        request_id="req-1", deadline=12.5, texts=texts, add_special_tokens=False, prompt_name="query"
    )
    assert _parse(TOKENIZE, inputs=inputs).add_special_tokens


def test_a_text_too_long_to_list_its_tokens_is_refused_by_its_place() -> None:
    with pytest.raises(InputTooLong, match=r"`inputs\[1\]` has 131073 characters"):
        _parse(TOKENIZE, inputs=["a", "b" * 131_073])


def test_tokens_have_what_dify_reads() -> None:
    # Given
    tokens = (Token(101, "[CLS]", True, None, None), Token(4971, "mill", False, 0, 4))

    # When
    answer = _render(TOKENIZE, Output(shape=(1, 0), data=b"", tokens=2, token_lists=(tokens,)), inputs="mill")

    # Then
    assert answer == [
        [
            {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
            {"id": 4971, "text": "mill", "special": False, "start": 0, "stop": 4},
        ]
    ]


@pytest.mark.parametrize(("ids", "lists"), [([101, 102], [[101, 102]]), ([[101], [7, 102]], [[101], [7, 102]])])
def test_ids_to_decode_may_be_of_one_text_or_of_many(ids: Any, lists: list[list[int]]) -> None:
    assert _parse(DECODE, ids=ids) == DecodeRequest(request_id="req-1", deadline=12.5, ids=lists)
    assert not _parse(DECODE, ids=ids, skip_special_tokens=False).skip_special_tokens
    texts = Output(shape=(1, 0), data=b"", tokens=2, texts=("mill", "race"))
    assert _render(DECODE, texts, ids=ids) == ["mill", "race"]


@pytest.mark.parametrize("ids", [[], [[]], [[5], []]])
def test_a_text_of_no_ids_is_refused(ids: Any) -> None:
    with pytest.raises(EmptyInput, match="`ids` cannot be empty"):
        _parse(DECODE, ids=ids)


@pytest.mark.parametrize("ids", [[-1], [2**32], ["a"], [1.5], [[1], 2]])
def test_what_cannot_be_an_id_is_refused(ids: Any) -> None:
    with pytest.raises(ValidationError):
        DECODE.body.model_validate({"ids": ids})


def test_nothing_to_tokenise_is_refused() -> None:
    with pytest.raises(EmptyInput, match="`inputs` cannot be empty"):
        _parse(TOKENIZE, inputs=[])


@pytest.mark.parametrize("dimensions", [0, -1])
def test_dimensions_must_be_positive(dimensions: int) -> None:
    with pytest.raises(InvalidRequest, match="`dimensions`"):
        wire.validated(EMBED.body, {"inputs": "a", "dimensions": dimensions})


@pytest.mark.parametrize("path", ["/embed", "/embed_sparse", "/embed_all"])
@pytest.mark.parametrize("ids", [[1, 2], [[1, 2], [3]], ["a", [1]]])
def test_token_ids_are_refused_by_name(path: str, ids: Any) -> None:
    with pytest.raises(TokenInputUnsupported) as raised:
        _parse(ROUTES[path], inputs=ids)

    assert raised.value.param == "inputs"


@pytest.mark.parametrize("token_input", ["native", "cl100k"])
@pytest.mark.parametrize("path", ["/embed", "/embed_sparse", "/embed_all"])
@pytest.mark.parametrize(
    ("inputs", "texts", "ids"),
    [
        ([101, 7, 102], [""], [[101, 7, 102]]),
        ([[101, 102], [7]], ["", ""], [[101, 102], [7]]),
        (["a", [101, 102]], ["a", ""], [None, [101, 102]]),
        (["a", "b"], ["a", "b"], None),
    ],
    ids=str,
)
def test_token_ids_are_the_models_own_where_it_takes_ids_at_all(
    path: str, token_input: Any, inputs: Any, texts: list[str], ids: Any
) -> None:
    model = ModelConfig(name="native", source="org/native", token_input=token_input)
    route = ROUTES[path]

    (request,) = route.parse(
        wire.validated(route.body, {"inputs": inputs}), replace(CONTEXT, catalog=Catalog([model], fleet_of()))
    ).requests

    assert isinstance(request, EmbedRequest)
    assert (request.texts, request.token_ids) == (texts, ids)
    with pytest.raises(EmptyInput, match=r"`inputs\[1\]` cannot be empty"):
        _parse(route, inputs=["a", []])


@pytest.mark.parametrize("fields", [{}, {"inputs": 5}, {"inputs": [None]}, {"inputs": "a", "normalize": "perhaps"}])
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
        (BatchTooLarge(), 422, "Validation"),
        (BodyTooLarge(), 413, "Validation"),
        (InvalidJson(), 400, "Validation"),
        (OutOfMemory(), 413, "Backend"),
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


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"inputs": "a', 400), (b'{"inputs": "a"', 400), (b'{"inputs": 5}', 422), (b"[]", 422), (b"{}", 422)],
)
def test_a_body_that_is_no_json_is_a_400_and_one_that_does_not_fit_a_422(content: bytes, status: int) -> None:
    response = TestClient(create_app(ApiSettings())).post("/embed", content=content)

    assert (response.status_code, response.json()["error_type"]) == (status, "Validation")


def test_info_describes_the_first_model_as_its_worker_does() -> None:
    # Given
    catalog = Catalog([config("small")], fleet_of(card("small", pooling="mean", max_tokens=512)))
    (view,) = PLUGIN.views

    # When
    info = view.render(catalog, ApiSettings(max_client_batch_size=33), {})

    # Then
    assert view.path == "/info"
    assert info["model_id"] == "small"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (512, 33)


@pytest.mark.parametrize(
    ("model", "model_type"),
    [
        (card("m", pooling="lasttoken"), {"embedding": {"pooling": "last_token"}}),
        (card("m", kinds=[Kind.SPARSE], pooling="max"), {"embedding": {"pooling": "splade"}}),
        (card("m", "reranker"), {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}),
        (
            card("m", model_type="classifier", labels=["no", "yes"]),
            {"classifier": {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}},
        ),
    ],
    ids=["last token", "splade", "reranker", "classifier"],
)
def test_info_has_the_type_of_the_model_in_teis_words(model: ModelCard, model_type: dict[str, Any]) -> None:
    shown = PLUGIN.views[0].render(Catalog([config("m")], fleet_of(model)), ApiSettings(), {})

    read = json.loads(wire.dumps(shown))
    assert Info.model_validate(read)
    assert read["model_type"] == model_type


def test_info_answers_before_any_worker_does() -> None:
    info = PLUGIN.views[0].render(Catalog([config("small")], fleet_of()), ApiSettings(), {})

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


@pytest.mark.parametrize("path", ["/embed_sparse", "/embed_all"])
def test_texts_may_be_queries_or_documents(path: str) -> None:
    assert [_parse(ROUTES[path], inputs="a", input_type=kind).input_type for kind in ("query", None)] == ["query", None]
    with pytest.raises(ValidationError, match="input_type"):
        _parse(ROUTES[path], inputs="a", input_type="passage")


def test_a_vector_for_each_token_is_a_list_of_lists() -> None:
    # Given two texts of two tokens and one
    vectors = Ragged(counts=np.array([2, 1], "<i4").tobytes(), values=np.arange(6, dtype="<f4").tobytes(), width=2)

    # Then
    answer = _render(
        ROUTES["/embed_all"], Output(shape=(2, 0), data=b"", tokens=3, multivector=vectors), inputs=["a", "b"]
    )
    assert answer == [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0]]]
    assert list(_parse(ROUTES["/embed_all"], inputs="a").kinds) == [Kind.MULTIVECTOR]
