"""Smart-Embedder's dialect: all kinds of vectors of one call, and warnings."""

import json
from typing import Any

import pytest

from api import wire
from api.catalog import Catalog
from api.dialect import Answer, Context
from api.dialects.smart_embedder import PLUGIN, EmbeddingsResponse, RerankResponse
from shared.errors import EmptyInput, InputTooLong, WrongTask
from shared.jobs import EmbedRequest, RerankRequest
from shared.results import Kind, Output, Truncation
from tests.helpers.dialects import parsed, rendered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import hybrid_output, output
from tests.helpers.recorded import RECORDED

EMBED, RERANK = PLUGIN.routes
DENSE, SPARSE, MULTIVECTOR = Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR


def _kinds(*models: list[Kind], **fields: Any) -> list[list[str]]:
    cards = [card(f"m{number}", kinds=kinds) for number, kinds in enumerate(models)]
    context = Context("r", 12.5, Catalog([config(each.name) for each in cards] or [config("m")], fleet_of(*cards)))
    job = EMBED.parse(EMBED.body.model_validate({"sentences": ["a"], **fields}), context)
    return [list(request.kinds) for request in job.requests if isinstance(request, EmbedRequest)]


def _rendered(*outputs: Output, **fields: Any) -> Any:
    body = EMBED.body.model_validate({"sentences": ["a"], **fields})
    models = [f"m{number}" for number in range(len(outputs))]
    answer = json.loads(wire.dumps(EMBED.render(body, Answer("r", models[0], outputs, 0.5, models))))
    EmbeddingsResponse.model_validate(answer)
    return answer


def test_the_trailing_slash_is_smart_embedders_and_all_paths_of_embeddings_and_ranks_understand_it() -> None:
    assert EMBED.paths[0] == "/embeddings"
    assert {"/v1/embeddings", "/rerank", "/v1/rerank"} <= {*EMBED.paths, *RERANK.paths}


def test_the_request_of_its_client_asks_for_all_kinds_unnormalised() -> None:
    _, body = RECORDED["Smart-Embedder, embeddings"]

    assert parsed(EMBED, **body) == EmbedRequest(
        request_id="req-1", deadline=12.5, texts=["a", "b"], kinds=[DENSE, SPARSE, MULTIVECTOR], normalize=False
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input_type": "query"}, {"input_type": "query"}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prefix": "query: "}, {"prompt": "query: "}),
    ],
    ids=str,
)
def test_sentences_may_have_a_prompt(fields: dict[str, str], expected: dict[str, str]) -> None:
    request = parsed(EMBED, sentences=["a"], **fields)

    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("models", "fields", "kinds"),
    [
        ([[DENSE]], {}, [[DENSE]]),
        ([[DENSE], [SPARSE]], {}, [[DENSE], [SPARSE]]),
        ([[DENSE, SPARSE, MULTIVECTOR]], {}, [[DENSE, SPARSE, MULTIVECTOR]]),
        ([[DENSE, SPARSE, MULTIVECTOR]], {"return_sparse": False, "return_colbert": False}, [[DENSE]]),
        ([[DENSE]], {"return_sparse": True}, [[DENSE], [SPARSE]]),
        ([], {}, [[DENSE]]),
    ],
    ids=[
        "dense only",
        "two models",
        "one that makes all",
        "only dense asked for",
        "not made here",
        "nothing known yet",
    ],
)
def test_what_is_not_declined_is_made_if_it_can_be(
    models: list[list[Kind]], fields: dict[str, Any], kinds: list[list[Kind]]
) -> None:
    assert _kinds(*models, **fields) == kinds


def test_who_wants_nothing_gets_a_sentence() -> None:
    with pytest.raises(WrongTask, match="no kind of vectors is asked for"):
        _kinds([DENSE], return_dense=False)


def test_options_travel_with_the_request() -> None:
    request = parsed(EMBED, sentences=["a"], normalize_dense=True, truncate=False)

    assert isinstance(request, EmbedRequest)
    assert (request.normalize, request.truncate) == (True, False)


def test_each_sentence_comes_back_with_its_vectors_and_the_models_that_made_them() -> None:
    answer = _rendered(hybrid_output(dense=[[0.5]]), hybrid_output(sparse=[{7: 0.5}], multivector=[[[1.0]]]))

    assert answer == {
        "data": [{"id": 0, "text": "a", "embeddings": {"dense": [0.5], "sparse": {"7": 0.5}, "colbert": [[1.0]]}}],
        "model_name": "m0",
        "dense_model_name": "m0",
        "sparse_model_name": "m1",
        "colbert_model_name": "m1",
        "processing_time_ms": 500.0,
        "warnings": [],
    }


def test_sparse_vectors_are_ready_for_qdrant_when_asked() -> None:
    answer = _rendered(hybrid_output(sparse=[{7: 0.5, 9: 0.25}]), sparse_as_indices=True)

    assert answer["data"][0]["embeddings"] == {"sparse": {"indices": [7, 9], "values": [0.5, 0.25]}}
    assert answer["dense_model_name"] is None


def test_a_sentence_that_was_cut_is_warned_of() -> None:
    answer = _rendered(hybrid_output(dense=[[0.5]], truncations=[Truncation(0, 300, 256)]))

    (warning,) = answer["warnings"]
    assert (warning["code"], warning["target"]["pointer"]) == ("input_truncated", "/sentences/0")
    assert warning["details"]["original_tokens"] == 300


@pytest.mark.parametrize(("normalize", "raw"), [(True, False), (False, True), (None, True)])
def test_passages_are_scored_as_the_model_does_unless_asked_otherwise(normalize: bool | None, raw: bool) -> None:
    assert parsed(RERANK, query="q", passages=["a", ""], normalize=normalize, truncate=False) == RerankRequest(
        request_id="req-1", deadline=12.5, query="q", documents=["a", ""], raw_scores=raw, truncate=False
    )


def test_passages_come_back_best_first() -> None:
    _, body = RECORDED["Smart-Embedder, rerank"]

    answer = rendered(RERANK, output([0.25, 0.75]), **body)

    RerankResponse.model_validate(answer)
    assert answer == {
        "results": [
            {"index": 1, "passage": "b", "score": 0.75},
            {"index": 0, "passage": "a", "score": 0.25},
        ],
        "model_name": "own/name",
        "processing_time_ms": 500.0,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (EMBED, {"sentences": []}),
        (EMBED, {"sentences": ["a", ""]}),
        (RERANK, {"query": "", "passages": ["a"]}),
        (RERANK, {"query": "q", "passages": []}),
    ],
)
def test_nothing_is_refused(route: Any, body: dict[str, Any]) -> None:
    with pytest.raises(EmptyInput):
        parsed(route, **body)


def test_an_error_has_the_detail_that_its_client_reads() -> None:
    status, body = PLUGIN.render_error(InputTooLong("too long"))

    assert (status, body["detail"]) == (400, "too long")
