"""Bodies to lines: forms, gzip, and what is wrong with them."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.bulk.sender import TURN_BYTES, Sender
from api.bulk.uploads import open_upload, with_pauses
from shared.errors import BodyTooLarge, InvalidRequest

LINES = [b'{"text":"one"}\n', b'{"text":"two"}\n']
BODY = b"".join(LINES)


def sender(body: bytes, size: int, *, leaves: bool = False) -> Sender:
    """One that sends a body in pieces of a size, and then stays or leaves."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or leaves}
        if not leaves and body:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"} if body else {"type": "http.request"}

    return Sender(receive, 60)


def upload(
    body: bytes, headers: Mapping[str, str] | None = None, *, size: int = 7, most_line_bytes: int = 1000
) -> tuple[Mapping[str, str], list[bytes]]:
    async def read() -> tuple[Mapping[str, str], list[bytes]]:
        opened = await open_upload(headers or {}, sender(body, size))
        return opened.fields, [line async for lines in opened.batches(most_line_bytes) for line in lines]

    return asyncio.run(read())


def form(*parts: tuple[str, str | None, bytes], end: bytes = b"--b--\r\n") -> tuple[bytes, dict[str, str]]:
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        body += b"--b\r\ncontent-disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + end, {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_bare_body_is_the_lines(size: int) -> None:
    assert upload(BODY, size=size) == ({}, LINES)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_compressed_bodies_are_read_whoever_says_so(size: int) -> None:
    packed = gzip.compress(BODY, mtime=0)
    assert upload(packed, {"content-encoding": "gzip"}, size=size) == ({}, LINES)
    assert upload(packed, size=size) == ({}, LINES)
    # A file that was compressed already, sent by a client that compresses what it sends.
    assert upload(gzip.compress(packed, mtime=0), {"content-encoding": "gzip"}, size=size) == ({}, LINES)


@hypothesis_settings(max_examples=30)
@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4), st.integers(1, 500))
def test_gzip_files_one_after_the_other_are_one(contents: list[bytes], size: int) -> None:
    body = b"".join(gzip.compress(content, mtime=0) for content in contents) + b"\0" * 10
    lines = b"".join(contents).split(b"\n")
    expected = [line.lstrip(b" \t\r") + b"\n" for line in lines if line.strip(b" \t\r")]
    _, found = upload(body, {"content-encoding": "gzip"}, size=size, most_line_bytes=10_000)
    assert found == expected or contents[0][:2] == b"\x1f\x8b"


def test_output_of_exactly_the_step_is_not_cut_short() -> None:
    for length in (TURN_BYTES - 1, TURN_BYTES, TURN_BYTES + 1, 2 * TURN_BYTES):
        body = b"x" * length
        _, (line,) = upload(zlib.compress(body, wbits=31), size=65_536, most_line_bytes=1 << 20)
        assert len(line) == length + 1


def test_a_form_has_options_before_its_file() -> None:
    body, headers = form(("model", None, b"m"), ("kinds", None, b"dense,sparse"), ("file", "docs.ndjson", BODY))
    for size in (1, 7, 1000):
        assert upload(body, headers, size=size) == ({"model": "m", "kinds": "dense,sparse"}, LINES)


def test_a_compressed_file_of_a_form_is_read() -> None:
    body, headers = form(("file", "docs.ndjson.gz", gzip.compress(BODY, mtime=0)))
    assert upload(body, headers) == ({}, LINES)


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (BODY, {"content-encoding": "br"}, "`content-encoding` must be gzip or absent"),
        (BODY, {"content-encoding": "gzip"}, "the body is not gzip, as it should be"),
        (gzip.compress(BODY, mtime=0)[:-9], {}, "the gzip data of the body end too early"),
        (b"", {"content-encoding": "gzip"}, "the gzip data of the body end too early"),
        (BODY, {"content-type": "multipart/form-data"}, "the body must be multipart/form-data with a boundary"),
        (*form(("model", None, b"m")), "the form has no part `file`"),
        (*form(("docs", "a.ndjson", BODY)), "the file must be the part `file` of the form, not 'docs'"),
        (*form(("file", "a", BODY), ("model", None, b"m")), "the part 'model' comes after the file"),
        (*form(("file", "a", BODY), ("file", "b", BODY)), "the form has more than one `file`, and one is taken"),
        (*form(("file", "a", BODY), end=b""), "the form ends before its last boundary"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(body: bytes, headers: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        upload(body, headers)
    assert caught.value.message.startswith(sentence)


def test_endless_fields_are_refused() -> None:
    body, headers = form(("model", None, b"m" * 70_000), ("file", "a", BODY))
    with pytest.raises(BodyTooLarge):
        upload(body, headers, size=4096)


def test_a_small_body_that_holds_gigabytes_is_never_held() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compressor.compress(b"x" * (1 << 20)) for _ in range(200)) + compressor.flush()
    assert len(bomb) < 300_000
    assert upload(bomb, size=65_536) == ({}, [b'{"$too_long":209715200}\n'])


BLANK = gzip.compress(b"\n" * (16 << 20), mtime=0)


@pytest.mark.parametrize(
    ("body", "least_turns"), [(BLANK, 200), (b"{}\n" * 350_000, 300), (gzip.compress(b"{}\n" * 350_000, mtime=0), 300)]
)
def test_others_have_their_turns_whatever_the_lines_are_like(body: bytes, least_turns: int) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def read() -> None:
        other = asyncio.ensure_future(others())
        async for lines in (await open_upload({}, sender(body, len(body)))).batches(1000):
            assert len(lines) <= 1024
        other.cancel()

    asyncio.run(read())
    assert turns >= least_turns


@pytest.mark.parametrize(
    ("body", "headers"),
    [(BLANK, {}), (gzip.compress(BLANK, mtime=0), {"content-encoding": "gzip"})],
    ids=["once", "twice"],
)
def test_a_sender_who_has_left_is_not_worked_for_any_more(body: bytes, headers: dict[str, str]) -> None:
    sent = sender(body, 1000, leaves=True)

    async def read() -> int:
        count = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal count
            async for piece in pieces:
                count += 1
                yield piece

        opened = await open_upload(headers, sent)
        pieces = opened.pieces
        with pytest.raises(ClientDisconnect):
            async for _ in replace(opened, pieces=counted()).batches(1000):
                pass
        return count

    assert asyncio.run(read()) < 50


def test_carriage_returns_in_a_form_come_in_no_more_pieces_than_other_bytes() -> None:
    body, headers = form(("file", "a", b"\r" * 60_000 + b"{}\r\n"))

    async def read() -> list[bytes]:
        opened = await open_upload(headers, sender(body, len(body)))
        return [piece async for piece in opened.pieces]

    assert len(asyncio.run(read())) < 5


def test_a_silent_sender_is_noticed_once_for_each_silence() -> None:
    async def slow() -> AsyncIterator[list[bytes]]:
        yield [b"1"]
        await asyncio.sleep(0.2)
        yield [b"2"]
        yield [b"3"]

    async def read() -> list[Any]:
        return [batch async for batch in with_pauses(slow(), 0.05)]

    assert asyncio.run(read()) == [[b"1"], [], [b"2"], [b"3"]]
