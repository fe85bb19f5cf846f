"""Bytes on a connection, as no client library would send them, and the answers that come back."""

import asyncio
import http.client
import io
from collections.abc import Sequence
from dataclasses import dataclass

#: Between two pieces of a request, so that they arrive apart, in seconds.
_PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back on a connection."""

    responses: list[Response]
    #: Whether the server has closed it; else it was still open when patience ran out.
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of all answers."""
        return [response.status for response in self.responses]


async def exchange(port: int, pieces: Sequence[bytes], *, patience_s: float = 30.0) -> Exchange:
    """Send pieces one after the other and read until the server closes the connection.

    Args:
        port: Of the server, on this machine.
        pieces: What is sent; a server that closes meanwhile does not get the rest.
        patience_s: How long it may take to answer and close.

    Raises:
        ValueError: What came back is no HTTP.
    """
    received = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    closed = False
    try:
        async with asyncio.timeout(patience_s):
            await _send(writer, pieces)
            while not closed:
                chunk = await reader.read(1 << 16)
                received += chunk
                closed = not chunk
    except TimeoutError:
        pass  # which `closed` tells
    except ConnectionError:
        closed = True
    finally:
        writer.transport.abort()
    return Exchange(parsed(bytes(received)), closed)


async def leave(port: int, pieces: Sequence[bytes]) -> None:
    """Send pieces and go away without reading."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await _send(writer, pieces)
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(_PAUSE_S)
    except ConnectionError:
        return  # refused before all of it was there; what was answered can still be read


def parsed(data: bytes) -> list[Response]:
    """The answers in what came back, the last of which must be whole.

    Raises:
        ValueError: It is no HTTP.
    """
    source, responses = io.BytesIO(data), []
    while line := source.readline():
        version, _, rest = line.partition(b" ")
        if version != b"HTTP/1.1" or not rest[:3].isdigit():
            raise ValueError(f"{line[:100]!r} is no status line")
        headers = http.client.parse_headers(source)
        status = int(rest[:3])
        responses.append(Response(status, headers, b"" if status < 200 else _body(source, headers)))
    return responses


def _body(source: io.BytesIO, headers: http.client.HTTPMessage) -> bytes:
    if headers["transfer-encoding"] is None:
        length = int(headers["content-length"])
        body = source.read(length)
        if len(body) < length:
            raise ValueError(f"{len(body)} of {length} bytes of an answer came")
        return body
    chunks = []
    while size := int(source.readline(), 16):
        chunks.append(source.read(size))
        source.readline()
    source.readline()
    return b"".join(chunks)


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """A request that is all right in itself, after which the connection is closed."""
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"host: mill", b"connection: close", *headers]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])
