"""Replies on the wire: vectors are bytes, errors keep their meaning, order is kept."""

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InferenceFailed, InputTooLong, MillraceError
from shared.results import Output, Reply, Timings, replies_from_wire, replies_to_wire

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
        timings=Timings(draw(SECONDS), draw(SECONDS), draw(SECONDS)),
    )


ERRORS = st.builds(InferenceFailed, st.text(min_size=1, max_size=30)) | st.builds(
    InputTooLong, st.text(min_size=1, max_size=30), param=st.none() | st.just("query")
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
            assert (after.message, after.param) == (before.message, before.param)
        else:
            assert after == before


def test_an_older_workers_reply_without_the_optional_fields_is_read() -> None:
    # Given
    wire = {"v": 1, "replies": [{"shape": [1, 2], "data": b"\0" * 8, "tokens": 3}]}

    # When
    (reply,) = replies_from_wire(wire)

    # Then
    assert reply == Output(shape=(1, 2), data=b"\0" * 8, tokens=3, truncated=0, timings=Timings())
