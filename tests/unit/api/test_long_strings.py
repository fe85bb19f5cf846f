"""Long strings: however the pieces are cut, what comes out is what the parser would have read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import json_pieces, long_strings
from api.json_pieces import JsonPieces
from api.long_strings import LongString, after_open_quote, quotes_in, whole_characters
from shared.errors import BodyTooLarge, InvalidJson, MillraceError

#: All that has a form of its own in JSON: escapes of both kinds, quotes, characters of one to four bytes.
TEXTS = st.text(st.sampled_from('ab"\\\n/\u00e9\u6c34\U0001f600\u2028'))
RAW = TEXTS.flatmap(lambda text: st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False)]))


async def _read(raw: bytes, step: int) -> Any:
    pieces = JsonPieces(100)
    for start in range(0, len(raw), step):
        await pieces.take(raw[start : start + step])
    return pieces.value()


def _run(raw: bytes, step: int) -> Any:
    """Without an event loop: nothing is waited for but the turns of others."""
    reading = _read(raw, step)
    while True:
        try:
            reading.send(None)
        except StopIteration as finished:
            return finished.value


@given(st.lists(RAW, min_size=1, max_size=4), st.integers(1, 7))
def test_a_string_is_the_same_however_it_is_cut(strings: list[str], step: int) -> None:
    raw = f'{{"a": [{", ".join(strings)}], {strings[0]}: 1}}'.encode()

    assert _run(raw, step) == json.loads(raw)


@given(RAW, st.integers(0, 40))
def test_no_character_and_no_escape_is_cut(string: str, at: int) -> None:
    piece = string[:-1].encode()[: 1 + at]

    whole = piece[: whole_characters(piece)]

    assert json.loads(whole + b'"') == json.loads(string)[: len(json.loads(whole + b'"'))]
    assert len(piece) - len(whole) < 12


@given(st.lists(RAW, max_size=4), RAW)
def test_the_beginning_of_an_open_string_is_found(strings: list[str], last: str) -> None:
    piece = ",".join([*strings, last]).encode()[:-1]

    assert quotes_in(piece) == 2 * len(strings) + 1
    assert after_open_quote(piece) == last.encode()[1:-1]


def test_a_string_ends_where_its_quote_stands() -> None:
    long = LongString()

    assert long.take(b'one \\"two\\" ') is None
    assert long.take(b'three", "four"') == 5
    assert long.text == 'one "two" three'


@pytest.mark.parametrize("middle", [b"\x00", b"\\x", b"\xff", b"\\ud800 "], ids=repr)
def test_what_is_no_string_is_refused(middle: bytes) -> None:
    with pytest.raises(InvalidJson, match="the body is not valid JSON"):
        _run(b'{"a": "' + b"x" * 300_000 + middle + b"x" * 300_000 + b'"}', 65_536)


def test_a_string_that_does_not_end_is_refused() -> None:
    with pytest.raises(InvalidJson, match="ends within a string"):
        _run(b'{"a": "' + b"x" * 300_000, 65_536)


def test_a_string_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_strings, "_LONGEST_BYTES", 1_000_000)

    assert _run(b'"' + b"x" * 900_000 + b'"', 65_536) == "x" * 900_000
    with pytest.raises(BodyTooLarge, match="takes more than 1000000 bytes of memory"):
        _run(f'"{"x" * 500_000}水{"x" * 200_000}"'.encode(), 65_536)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"[" * 200_000, "more than 1024 deep"),
        (b'{"a": ' + b"1" * 200_000, "a number of more than 1024 characters"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "not valid JSON"),
    ],
    ids=["depth", "endless number", "long number"],
)
def test_what_would_cost_too_much_is_refused(raw: bytes, sentence: str) -> None:
    with pytest.raises(MillraceError, match=sentence):
        _run(raw, 65_536)


def test_keys_and_lists_are_counted() -> None:
    keys = ", ".join(f'"{number}": 0' for number in range(1_601))
    for raw in (f"{{{keys}}}", f"[{', '.join(['[]'] * 401)}]"):
        with pytest.raises(MillraceError, match="far more entries"):
            _run(raw.encode(), 65_536)
    assert json_pieces._CONTAINERS_PER_INPUT >= 4, (
        "an object with a list of an object with an object, as Cohere's inputs are"
    )
