"""vLLM's dialect: scores of pairs, classes, pooled tokens, messages, and rerank with documents."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api.dialects.vllm import PLUGIN
from shared.errors import EmptyInput, InvalidRequest, TokenInputUnsupported
from shared.jobs import ClassifyRequest, EmbedRequest, RerankRequest
from shared.results import Kind
from tests.helpers.dialects import answered, job, parsed, rendered
from tests.helpers.outputs import output

ROUTES = {(route.paths[0], route.key): route for route in PLUGIN.routes}
SCORE, CLASSIFY, POOLING = ROUTES["/v1/score", ""], ROUTES["/classify", "input"], ROUTES["/pooling", ""]
MESSAGES, RERANK = ROUTES["/v1/embeddings", "messages"], ROUTES["/v1/rerank", ""]


def _pairs(**fields: Any) -> list[tuple[str, list[str]]]:
    requests = [request for request in job(SCORE, **fields).requests if isinstance(request, RerankRequest)]
    return [(request.query, list(request.documents)) for request in requests]


@pytest.mark.parametrize(
    "names", [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")]
)
def test_the_sides_of_pairs_have_four_names(names: tuple[str, str]) -> None:
    first, second = names

    assert _pairs(**{first: "q", second: "d"}) == [("q", ["d"])]
    assert _pairs(**{first: "q", second: ["d", "e"]}) == [("q", ["d", "e"])]
    assert _pairs(**{first: ["q"], second: ["d", "e"]}) == [("q", ["d", "e"])]
    assert _pairs(**{first: ["q", "r"], second: ["d", "e"]}) == [("q", ["d"]), ("r", ["e"])]


def test_a_side_may_be_objects_with_parts_of_text() -> None:
    part = {"content": [{"type": "text", "text": "d"}]}

    assert _pairs(queries=part, documents=[part, "e"]) == [("d", ["d", "e"])]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "send two sides of texts to score: `queries` with `documents`"),
        ({"queries": "q"}, "send two sides"),
        ({"queries": "q", "text_2": "d"}, "send two sides"),
        ({"queries": "q", "documents": "d", "items": "d"}, "send two sides"),
        ({"queries": ["q", "r"], "documents": ["d"]}, "2 `queries` do not go with 1 `documents`"),
        ({"queries": ["q", "r"], "documents": ["d", "e", "f"]}, "2 `queries` do not go with 3"),
        ({"text_1": "q", "text_2": {"image_url": "i"}}, r"`text_2\[0\]` has no text"),
    ],
    ids=str,
)
def test_sides_that_make_no_pairs_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{said}"):
        job(SCORE, **fields)


def test_an_empty_second_text_is_scored_like_any_other() -> None:
    assert _pairs(text_1="q", text_2=["d", ""]) == [("q", ["d", ""])]
    assert _pairs(text_1="q", text_2="") == [("q", [""])]


@pytest.mark.parametrize(
    ("fields", "where"), [({"text_1": "", "text_2": "d"}, "text_1"), ({"text_1": "q", "text_2": []}, "text_2")]
)
def test_no_text_and_an_empty_first_one_are_refused_by_name(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        job(SCORE, **fields)

    assert raised.value.param == where


def test_every_pair_of_a_request_carries_its_options() -> None:
    requests = job(SCORE, text_1=["q", "r"], text_2=["d", "e"], use_activation=False, instruction="find").requests

    for request in requests:
        assert isinstance(request, RerankRequest)
        assert (request.raw_scores, request.instruction) == (True, "find")


def test_scores_come_in_the_order_of_the_pairs_and_not_by_rank() -> None:
    one = rendered(SCORE, output([0.25, 0.75]), queries="q", documents=["d", "e"])
    several = rendered(SCORE, [output([0.25]), output([0.75])], queries=["q", "r"], documents=["d", "e"])

    expected = [{"index": 0, "object": "score", "score": 0.25}, {"index": 1, "object": "score", "score": 0.75}]
    assert one["data"] == several["data"] == expected
    assert (one["object"], several["usage"]["prompt_tokens"]) == ("list", 14)


def test_scores_have_their_documented_form() -> None:
    assert len(answered(SCORE, queries=["q", "r", "s"], documents=["d", "e", "f"])["data"]) == 3


def test_under_the_prefix_rerank_always_returns_documents() -> None:
    answer = answered(RERANK, query="q", documents=["a", "b"], return_documents=False, top_n=0)

    assert [result["document"] for result in answer["results"]] == [{"text": "b"}, {"text": "a"}]
    assert RERANK.prefix_only


def test_a_classified_text_has_all_probabilities_and_the_best_label() -> None:
    scored = replace(output([[0.25, 0.75], [0.5, 0.25]]), labels=("no", "yes"))

    answer = rendered(CLASSIFY, scored, input=["a", "b"])

    assert answer["data"] == [
        {"index": 0, "label": "yes", "probs": [0.25, 0.75], "num_classes": 2},
        {"index": 1, "label": "no", "probs": [0.5, 0.25], "num_classes": 2},
    ]


def test_logits_are_given_when_the_activation_is_declined() -> None:
    request = parsed(CLASSIFY, input="a", use_activation=False, truncation_side="left")

    assert request == ClassifyRequest(
        request_id="req-1", deadline=12.5, texts=["a"], raw_scores=True, truncation_side="left"
    )


def test_pooling_gives_a_vector_for_each_token_and_with_task_embed_one_for_each_text() -> None:
    tokens, texts = answered(POOLING, input=["a", "b"]), answered(POOLING, input=["a", "b"], task="embed", dimensions=8)

    assert [np.array(entry["data"]).shape for entry in tokens["data"]] == [(2, 4), (2, 4)]
    assert [np.array(entry["data"]).shape for entry in texts["data"]] == [(8,), (8,)]
    assert {entry["object"] for entry in tokens["data"]} == {"pooling"}


@pytest.mark.parametrize(
    ("fields", "length"),
    [({}, 2 * 4 * 4), ({"task": "embed"}, 16 * 4), ({"task": "embed", "embed_dtype": "float16"}, 16 * 2)],
    ids=str,
)
def test_pooled_vectors_in_base64_are_their_bytes_row_by_row(fields: dict[str, Any], length: int) -> None:
    (entry,) = answered(POOLING, input="a", encoding_format="base64", **fields)["data"]

    assert len(base64.b64decode(entry["data"])) == length


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"dimensions": 8}, "dimensions"),
        ({"embed_dtype": "float16"}, "embed_dtype"),
        ({"use_activation": False}, "use_activation"),
    ],
    ids=str,
)
def test_options_of_one_vector_are_refused_for_a_vector_for_each_token(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"`{field}` is for dense vectors"):
        parsed(POOLING, input="a", **fields)


@pytest.mark.parametrize("route", [CLASSIFY, POOLING], ids=["classify", "pooling"])
def test_special_tokens_are_not_left_out(route: Any) -> None:
    with pytest.raises(ValidationError, match="add_special_tokens"):
        parsed(route, input="a", add_special_tokens=False)


def test_other_tasks_of_pooling_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="task"):
        parsed(POOLING, input="a", task="classify")


@pytest.mark.parametrize("route", [CLASSIFY, POOLING], ids=["classify", "pooling"])
@pytest.mark.parametrize("ids", [[1, 2], [[1], [2]]], ids=str)
def test_token_ids_are_refused_with_the_way_out(route: Any, ids: Any) -> None:
    with pytest.raises(TokenInputUnsupported, match="check_embedding_ctx_length=False"):
        parsed(route, input=ids)


def test_a_message_is_one_input_with_the_systems_words_as_prompt() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
    messages = [
        {"role": "system", "content": "find"},
        {"role": "user", "content": [picture, {"type": "text", "text": "a"}]},
    ]

    parsed_job = job(MESSAGES, messages=messages, dimensions=8, add_special_tokens=True, continue_final_message=True)

    (request,) = parsed_job.requests
    assert isinstance(request, EmbedRequest)
    assert (request.texts, request.prompt, request.dimensions, request.kinds) == (["a"], "find", 8, [Kind.DENSE])
    assert parsed_job.images == ["https://h/i.png"]


def test_a_message_is_answered_as_an_embedding() -> None:
    answer = answered(MESSAGES, messages=[{"role": "user", "content": "a"}], encoding_format="base64")

    (entry,) = answer["data"]
    assert (entry["index"], len(base64.b64decode(entry["embedding"]))) == (0, 16 * 4)


@pytest.mark.parametrize("field", ["chat_template", "chat_template_kwargs", "mm_processor_kwargs"])
def test_what_would_change_the_template_is_refused_by_name(field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        job(MESSAGES, messages=[{"role": "user", "content": "a"}], **{field: {}})

    assert raised.value.errors()[0]["loc"] == (field,)
