"""Bodies: whatever their size and however they arrive, the same object; too large ones are refused early."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import bodies, nesting
from shared.errors import BatchTooLarge, BodyTooLarge, InvalidRequest, MillraceError

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=6)


def _read(
    raw: bytes,
    *,
    step: int = 1 << 20,
    limit: int = 1 << 30,
    most: int = 10_000,
    stated: bool = True,
    encoding: bytes | None = None,
) -> Any:
    read: list[int] = []

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(raw), step):
            read.append(start)
            yield raw[start : start + step]

    headers = {b"content-length": str(len(raw)).encode()} if stated else {}
    if encoding is not None:
        headers[b"content-encoding"] = encoding
    try:
        return asyncio.run(bodies.read_json_object(stream(), headers, limit_bytes=limit, most_inputs=most))
    except MillraceError as err:
        err.chunks_read = len(read)  # type: ignore[attr-defined]
        raise


@given(OBJECTS, st.integers(1, 50), st.booleans())
def test_an_object_is_the_same_at_once_and_piece_by_piece(value: dict[str, Any], step: int, at_once: bool) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        if not at_once:
            patch.setattr(bodies, "_AT_ONCE_BYTES", 0)

        # Equal numbers may be of other types: 2.0 is 2.
        assert repr(_read(raw, step=step)) == repr(orjson.loads(raw))


#: What JSON's readers disagree about: halves of surrogate pairs, and numbers that no integer or no float has room for.
PARTS = st.sampled_from(
    ["a", '\\"', "\\\\", "\\ud83d", "\\uDE00", "\\ud83d\\ude00", "\\ud7a3", "\\u0041", "ud83d", "\u6c34"]
)
STRINGS = st.lists(PARTS, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
WHOLE = [-(2**63) - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64]
ODD = ["-0", "-0.0", "1E2", "1e-400", "1e400", "-1e400", "9" * 300, "9" * 400, "0." + "3" * 900]
NUMBERS = st.sampled_from([*map(str, WHOLE), *ODD])


@given(st.lists(STRINGS | NUMBERS, min_size=1, max_size=4), st.booleans(), st.integers(1, 50))
def test_what_is_refused_at_once_is_refused_in_pieces_and_the_rest_is_the_same(
    entries: list[str], as_keys: bool, step: int
) -> None:
    pairs = ",".join(f"{entry}: 1" for entry in entries if entry.startswith('"'))
    raw = f'{{"a": {{{pairs}}}}}'.encode() if as_keys else f'{{"a": [{",".join(entries)}]}}'.encode()

    assert _result(raw, step, at_once=False) == _result(raw, step, at_once=True)


def _result(raw: bytes, step: int, *, at_once: bool) -> str:
    """What is read, types and all, or the code of what it is refused with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_AT_ONCE_BYTES", 1 << 20 if at_once else 0)
        try:
            return repr(_read(raw, step=step))
        except InvalidRequest as err:
            return err.code


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            '"secret \\ud83d"',
            "the body is not valid JSON: a string has half of a surrogate pair, such as \\ud83d alone",
        ),
        ("secret", "the body is not valid JSON: lexical error: invalid char in json text."),
        ("1e400", "the body is not valid JSON: it has a number that is larger than a float can be"),
        ("9" * 5000, "the body is not valid JSON: it has a number of more than 1024 characters"),
        ("1e99999999999999999999", "the body is not valid JSON: it has a number that is too long"),
    ],
    ids=["surrogate", "word", "infinite", "long", "exponent"],
)
def test_what_is_wrong_with_a_large_body_is_said_in_a_sentence_and_not_shown(wrong: str, said: str) -> None:
    raw = f'{{"before": "secret", "pad": "{"x" * 300_000}", "wrong": ["secret", {wrong}]}}'.encode()

    with pytest.raises(InvalidRequest) as raised:
        _read(raw)

    assert raised.value.message == said


def test_digits_in_a_text_are_no_number_however_many() -> None:
    value = {"pad": "x" * 300_000, "digits": ["7" * 5000, 'a"' + "7" * 70_000, "7" * 140_000], "number": 7}

    assert _read(json.dumps(value).encode(), step=1 << 16) == value


@given(OBJECTS, st.integers(1, 50), st.booleans(), st.sampled_from([b"gzip", b"x-gzip", b"GZIP"]))
def test_a_compressed_object_is_the_same(value: dict[str, Any], step: int, at_once: bool, encoding: bytes) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        if not at_once:
            patch.setattr(bodies, "_AT_ONCE_BYTES", 0)

        assert _read(gzip.compress(raw), step=step, encoding=encoding) == orjson.loads(raw)


def test_what_is_small_only_while_it_is_packed_is_refused_before_it_is_unpacked() -> None:
    # Given a hundred megabytes in a hundred kilobytes
    bomb = gzip.compress(b'{"input": "' + b"a" * 100_000_000)
    assert len(bomb) < 110_000

    with pytest.raises(BodyTooLarge) as raised:
        _read(bomb, step=1000, limit=1 << 20, encoding=b"gzip")

    # Then no more of it is read than holds a megabyte
    assert raised.value.chunks_read < 10  # type: ignore[attr-defined]


def test_what_unpacks_to_nothing_is_no_longer_than_another_body() -> None:
    with pytest.raises(BodyTooLarge):
        _read(gzip.compress(b"") * 10_000, step=1000, limit=100_000, stated=False, encoding=b"gzip")


@pytest.mark.parametrize(
    ("raw", "encoding", "sentence"),
    [
        (b'{"input": "a"}', b"br", "`content-encoding` must be gzip or absent, not 'br'"),
        (b'{"input": "a"}', b"gzip", "the body is not gzip, as it should be"),
        (gzip.compress(b'{"input": "a"}', mtime=0)[:-9], b"gzip", "the gzip data of the body end too early"),
        (gzip.compress(b'{"input": "a"}', mtime=0), None, "say so in a header, `content-encoding: gzip`"),
        ('{"input": "a"}'.encode("utf-16"), None, "the body looks like UTF-16"),
        ('{"input": "a"}'.encode("utf-16-le"), None, "the body looks like UTF-16"),
        (b'{"input": "caf\xe9"}', None, "it is not UTF-8, from byte 14 on"),
    ],
)
def test_what_is_no_json_in_utf_8_is_called_what_it_is(raw: bytes, encoding: bytes | None, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(sentence)) as raised:
        _read(raw, encoding=encoding)

    assert raised.value.status == (415 if encoding == b"br" else 400)


def test_a_large_body_is_read_whole() -> None:
    value = {"input": [f"{number} mill race " * 100 for number in range(2000)], "model": "m", "number": 1.5}

    assert _read(json.dumps(value).encode()) == value


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded_by_what_can_be_written_again(
    monkeypatch: pytest.MonkeyPatch, opening: bytes, closing: bytes, *, at_once: bool
) -> None:
    if not at_once:
        monkeypatch.setattr(bodies, "_AT_ONCE_BYTES", 0)

    def nested(depth: int) -> bytes:
        return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"

    assert orjson.dumps(_read(nested(nesting.DEEPEST))) == nested(nesting.DEEPEST)
    with pytest.raises(InvalidRequest, match="deep in each other"):
        _read(nested(nesting.DEEPEST + 1))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"a": 1}}', b'{"a": nope}', b'{"a":1,}'])
@pytest.mark.parametrize("at_once", [1 << 20, 0], ids=["at once", "in pieces"])
def test_what_is_no_object_is_refused(raw: bytes, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_AT_ONCE_BYTES", at_once)

    with pytest.raises(InvalidRequest, match="the body"):
        _read(raw)


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    with pytest.raises(BodyTooLarge, match="exceeds 1000 bytes") as raised:
        _read(b"x" * 2000, step=100, limit=1000)
    assert raised.value.chunks_read == 0  # type: ignore[attr-defined]


def test_a_body_that_does_not_say_it_is_read_no_further_than_the_limit() -> None:
    with pytest.raises(BodyTooLarge) as raised:
        _read(b"x" * 2000, step=100, limit=1000, stated=False)
    assert raised.value.chunks_read == 11  # type: ignore[attr-defined]


def test_absurd_lists_are_refused_before_they_are_validated() -> None:
    with pytest.raises(BatchTooLarge, match="`input` has 10001 entries"):
        _read(json.dumps({"input": ["a"] * 10_001}).encode())
    assert len(_read(json.dumps({"input": list(range(10_001))}).encode())["input"]) == 10_001, "one input of token ids"
    with pytest.raises(BatchTooLarge, match="an entry of `input` has more than"):
        _read(json.dumps({"input": [list(range(1, bodies._MOST_TOKEN_IDS + 2))]}).encode())


def test_a_text_as_long_as_the_body_may_be_is_read() -> None:
    value = {"input": "the mill by the water\n" * 1_000_000, "model": "m"}

    assert _read(json.dumps(value).encode(), step=1 << 16) == value


def test_millions_of_entries_are_refused_while_they_arrive() -> None:
    for body in ({"input": [{"text": "a"}] * 200_000}, {"input": [[]] * 200_000}, {"input": [0] * 2_200_000}):
        with pytest.raises(BatchTooLarge, match="far more entries"):
            _read(json.dumps(body).encode(), step=1 << 16)
