"""Forms that are read as they arrive: the same parts however the bytes come."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk.multipart import Part, read_form
from shared.errors import InvalidRequest

CONTENT_TYPE = 'multipart/form-data; boundary="b"'


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    body = b""
    for name, filename, content in parts:
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += b"" if filename is None else f'; filename="{filename}"\r\nContent-Type: text/plain'.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--b--\r\n"


def read(body: bytes, piece_bytes: int, content_type: str = CONTENT_TYPE) -> list[tuple[str, str | None, bytes]]:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece_bytes):
            yield body[start : start + piece_bytes]

    async def collect() -> list[tuple[str, str | None, bytes]]:
        found: list[tuple[str, str | None, bytes]] = []
        async for event in read_form(stream(), content_type):
            if isinstance(event, Part):
                found.append((event.name, event.filename, b""))
            else:
                name, filename, content = found[-1]
                found[-1] = (name, filename, content + event)
        return found

    return asyncio.run(collect())


@given(st.binary(max_size=80), st.integers(1, 90))
def test_parts_are_the_same_in_any_pieces(content: bytes, piece_bytes: int) -> None:
    parts = [
        ("purpose", None, b"batch"),
        ("file", "naïve.jsonl", content.replace(b"\r\n--b", b"")),
        ("last", None, b""),
    ]

    assert read(form(*parts), piece_bytes) == parts


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", CONTENT_TYPE),
        (form(("a", None, b"x"))[:-4], CONTENT_TYPE),
        (b"{}", CONTENT_TYPE),
        (form(("a", None, b"x")), "multipart/form-data"),
        (form(("a", None, b"x")), "application/json"),
        (form(("a", None, b"x")), "multipart/form-data; boundary=" + "b" * 5000),
        (form(("a", None, b"x")), ""),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", CONTENT_TYPE),
        (b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\nx\r\n--b--\r\n", CONTENT_TYPE),
        (b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n", CONTENT_TYPE),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("piece_bytes", [1, 10_000_000])
def test_what_is_no_form_is_refused(body: bytes, content_type: str, piece_bytes: int) -> None:
    with pytest.raises(InvalidRequest):
        read(body, piece_bytes, content_type)
