"""Bytes in any pieces give the same lines."""

import itertools
import sys
from types import FrameType
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.bulk.lines import TOO_LONG, LineSplitter

MOST = 8


def lines(pieces: list[bytes], most_bytes: int = MOST) -> list[bytes]:
    splitter = LineSplitter(most_bytes)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + list(splitter.close())


def expected(body: bytes) -> list[bytes]:
    """The same, of the body as a whole."""
    found = []
    for line in (line.lstrip(b" \t\r") for line in body.split(b"\n")):
        if len(line) > MOST:
            found.append(b'{"$too_long":%d}\n' % len(line))
        elif line:
            found.append(line + b"\n")
    return found


@given(
    st.lists(st.sampled_from([b"a", b"bb", b" ", b"\r", b"\t", b"\n", b"\n\n", b"long enough"]), max_size=40),
    st.lists(st.integers(0, 200), max_size=10),
)
@example([b"a", b"\n", b"bb"], [0, 1, 1, 2])
def test_any_split_of_the_bytes_gives_the_same_lines(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(parts)
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(bounds)]

    assert lines(pieces) == expected(body)


def test_the_last_line_needs_no_newline() -> None:
    assert lines([b"one\ntwo"]) == [b"one\n", b"two\n"]


def test_blank_lines_are_left_out() -> None:
    assert lines([b"\n \n\r\n\t\none\r\n\n"]) == [b"one\r\n"]


@pytest.mark.parametrize("blank", [b"\n", b" \n", b"\r\n", b" "])
def test_blank_lines_cost_what_their_bytes_cost_and_not_so_much_a_line(blank: bytes) -> None:
    splitter, calls = LineSplitter(MOST), 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += 1

    piece = blank * (65_536 // len(blank))
    sys.setprofile(count)
    try:
        for _ in range(16):
            assert splitter.feed(piece) == []
    finally:
        sys.setprofile(None)
    assert calls < 1000


def test_a_line_of_exactly_the_most_bytes_is_kept_and_one_more_is_not() -> None:
    assert lines([b"x" * MOST + b"\n"]) == [b"x" * MOST + b"\n"]
    assert lines([b"x" * (MOST + 1) + b"\n"]) == [b'{"$too_long":9}\n']


def test_a_too_long_line_is_counted_and_not_kept() -> None:
    splitter = LineSplitter(1024)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 65536)) == []
        assert len(splitter._begun) <= 1024
    (line,) = splitter.feed(b"\n")
    assert orjson.loads(line) == {TOO_LONG: 65_536_000}
    assert list(splitter.feed(b"next\n")) == [b"next\n"]


def test_nothing_has_no_lines() -> None:
    assert lines([]) == lines([b"", b""]) == []
