"""Pieces of JSON that all dialects share."""

import base64
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from api import wire
from shared import arrays
from shared.errors import (
    EmptyInput,
    InferenceFailed,
    InputTooLong,
    InvalidRequest,
    MillraceError,
    ModelNotFound,
    Overloaded,
    Unavailable,
    WrongTask,
)
from tests.helpers.outputs import output

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30)


def _array(scores: list[float]) -> wire.Float32Array:
    return np.array(scores, dtype=np.float32)


@given(SCORES, st.integers(0, 40) | st.none())
def test_a_ranking_is_best_first_and_complete(scores: list[float], top_n: int | None) -> None:
    ranking = wire.ranking(_array(scores), top_n)

    assert len(ranking) == (min(top_n, len(scores)) if top_n else len(scores))
    assert len({index for index, _ in ranking}) == len(ranking)
    assert all(score == np.float32(scores[index]) for index, score in ranking)
    assert [score for _, score in ranking] == sorted((float(np.float32(s)) for s in scores), reverse=True)[
        : len(ranking)
    ]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30))
def test_equal_scores_keep_the_order_of_the_documents(scores: list[float]) -> None:
    ranking = wire.ranking(_array(scores), None)

    for (one, one_score), (other, other_score) in pairwise(ranking):
        assert one_score > other_score or one < other


def test_no_top_n_0_and_too_many_all_mean_everything() -> None:
    scores = _array([0.1, 0.3, 0.2])

    assert wire.ranking(scores, None) == wire.ranking(scores, 0) == wire.ranking(scores, 9)


@pytest.mark.parametrize("top_n", [-1, -2, -9])
def test_a_negative_top_n_never_drops_results_silently(top_n: int) -> None:
    assert len(wire.ranking(_array([0.1, 0.3, 0.2]), top_n)) == 3


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_json_numbers_read_back_as_the_same_float32(values: list[float]) -> None:
    read = json.loads(wire.dumps(arrays.rows(output([values]))))

    assert np.array(read, np.float32).tolist() == [np.array(values, np.float32).tolist()]


def test_json_numbers_are_as_short_as_float32_allows() -> None:
    assert wire.dumps(arrays.rows(output([0.1, -0.25]))) == b"[0.1,-0.25]"


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_base64_is_the_little_endian_bytes(values: list[float]) -> None:
    encoded = arrays.base64_vector(_array(values))

    assert np.frombuffer(base64.b64decode(encoded), "<f4").tolist() == _array(values).tolist()


def test_identifiers_are_fresh_and_say_what_they_name() -> None:
    first, second = wire.identifier("rerank"), wire.identifier("rerank")

    assert first != second
    assert first.startswith("rerank-")


@pytest.mark.parametrize(
    ("texts", "where"),
    [([], "`input`"), ([""], "`input`"), (["a", "", ""], r"`input\[1\]`"), (["", "a"], r"`input\[0\]`")],
)
def test_an_empty_text_is_refused_with_its_position(texts: list[str], where: str) -> None:
    with pytest.raises(EmptyInput, match=f"^{where} cannot be empty$") as raised:
        wire.refuse_empty(texts, "input")

    assert raised.value.param == "input"


def test_whitespace_is_not_empty() -> None:
    wire.refuse_empty([" ", "\n"], "input")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputTooLong("x", param="input"), "invalid_request_error"),
        (ModelNotFound(), "invalid_request_error"),
        (Overloaded(), "rate_limit_exceeded"),
        (MillraceError(), "server_error"),
    ],
)
def test_an_error_reads_alike_for_clients_of_openai_cohere_and_jina(error: MillraceError, kind: str) -> None:
    body = wire.nested_error(error)

    assert body["error"] == {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    assert body["detail"] == body["message"] == error.message


@pytest.mark.parametrize(
    ("error", "error_type"),
    [
        (EmptyInput("say something"), "Empty"),
        (InputTooLong("too long"), "Validation"),
        (ModelNotFound("nobody"), "Validation"),
        (WrongTask("not that"), "Backend"),
        (Overloaded("full"), "Overloaded"),
        (Unavailable("away"), "Unhealthy"),
        (InferenceFailed("bad luck"), "Backend"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_flat_error_is_a_sentence_under_every_name_that_clients_look_for(
    error: MillraceError, error_type: str
) -> None:
    body = wire.flat_error(error)

    assert body["error"] == body["message"] == body["detail"] == error.message
    assert body["error_type"] == body["type"] == error_type
    assert body["code"] == error.code


def test_a_list_of_texts_may_have_an_empty_one_where_only_the_list_must_not_be() -> None:
    wire.refuse_none([""], "texts")

    with pytest.raises(EmptyInput, match="`texts` cannot be empty"):
        wire.refuse_none([], "texts")


class _Body(BaseModel):
    number: int
    either: list[int] | str = ""


def test_a_body_that_does_not_fit_is_refused_with_the_field_at_fault() -> None:
    assert wire.validated(_Body, {"number": 5, "more": 1}).number == 5
    for data, field in (
        ({"number": "five"}, "number"),
        ({"number": 5, "either": [1, "x"]}, r"either\[1\]"),
        ({}, "number"),
    ):
        with pytest.raises(InvalidRequest, match=f"^`{field}`: ") as raised:
            wire.validated(_Body, data)
        assert raised.value.param == field.split("\\")[0]
