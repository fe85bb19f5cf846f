"""Replies on the wire: vectors are bytes, errors keep their meaning, order is kept."""

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InferenceFailed, InputTooLong, MillraceError
from shared.places import QUERY
from shared.results import Output, Reply, Timings, Token, Truncation, replies_from_wire, replies_to_wire

TRUNCATIONS = st.builds(Truncation, st.integers(QUERY, 100), st.integers(0, 10**6), st.integers(0, 10**4))
TOKENS = st.builds(
    Token, st.integers(0, 2**32 - 1), st.text(max_size=5), st.booleans(), st.none(), st.none()
) | st.builds(
    Token, st.integers(0, 2**32 - 1), st.text(max_size=5), st.just(False), st.integers(0, 99), st.integers(0, 99)
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SECONDS = st.floats(min_value=0, max_value=1e4)


@st.composite
def outputs(draw: st.DrawFn) -> Output:
    shape = draw(st.tuples(st.integers(1, 4)) | st.tuples(st.integers(1, 4), st.integers(1, 5)))
    count = int(np.prod(shape))
    values = np.array(draw(st.lists(FLOATS, min_size=count, max_size=count)), dtype="<f4")
    return Output(
        shape=shape,
        data=values.tobytes(),
        tokens=draw(st.integers(0, 10**6)),
        truncated=draw(st.integers(0, 100)),
        timings=Timings(*(draw(SECONDS) for _ in range(5))),
        truncations=tuple(draw(st.lists(TRUNCATIONS, max_size=2))),
        scoring=draw(st.sampled_from(["", "cosine", "dot"])),
    )


ERRORS = st.builds(InferenceFailed, st.text(min_size=1, max_size=30)) | st.builds(
    InputTooLong,
    st.text(min_size=1, max_size=30),
    param=st.none() | st.just("query"),
    index=st.none() | st.integers(QUERY, 100),
)


def _over_the_wire(replies: list[Reply]) -> list[Reply]:
    return replies_from_wire(msgpack.unpackb(msgpack.packb(replies_to_wire(replies), use_bin_type=True), raw=False))


@given(st.lists(outputs(), max_size=4))
def test_vectors_and_scores_survive_the_wire_bit_by_bit(replies: list[Output]) -> None:
    assert _over_the_wire(list(replies)) == replies


@given(st.lists(outputs() | ERRORS, max_size=6))
def test_replies_keep_their_order_and_errors_stay_errors(replies: list[Reply]) -> None:
    # When
    received = _over_the_wire(replies)

    # Then
    assert len(received) == len(replies)
    for before, after in zip(replies, received, strict=True):
        if isinstance(before, MillraceError):
            assert isinstance(after, type(before))
            assert (after.message, after.param, after.index) == (before.message, before.param, before.index)
        else:
            assert after == before


@given(
    st.lists(st.lists(TOKENS, max_size=4).map(tuple), max_size=3).map(tuple), st.lists(st.text(max_size=5), max_size=3)
)
def test_what_a_tokenizer_answers_survives_the_wire(lists: tuple[tuple[Token, ...], ...], texts: list[str]) -> None:
    replies: list[Reply] = [
        Output(shape=(len(lists), 0), data=b"", tokens=3, token_lists=lists),
        Output(shape=(len(texts), 0), data=b"", tokens=3, texts=tuple(texts)),
    ]

    assert _over_the_wire(replies) == replies


def test_an_older_workers_reply_without_the_optional_fields_is_read() -> None:
    # Given
    wire = {"v": 1, "replies": [{"shape": [1, 2], "data": b"\0" * 8, "tokens": 3}]}

    # When
    (reply,) = replies_from_wire(wire)

    # Then
    assert reply == Output(shape=(1, 2), data=b"\0" * 8, tokens=3, truncated=0, timings=Timings())
