"""Bodies that bring documents: NDJSON, compressed or not, bare or as a file of a form, to lines while they arrive.

Nothing is kept but the line that has begun: a caller who takes the lines slowly slows the sender down, since nothing more is
read from the connection meanwhile.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from api.bulk.lines import LineSplitter
from api.bulk.multipart import Part, read_form
from api.bulk.sender import Sender
from api.unpacking import GZIP_MAGIC, gunzipped, is_packed
from shared.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

#: Most lines that are handed on at a time: each costs something, however short it is.
_TURN_LINES = 1024
#: Most bytes of a form's fields.
_MOST_FIELD_BYTES = 64 * 1024
#: Types of bodies that are certainly no lines of JSON, whatever their sender hopes for.
_OTHER_KINDS = (
    *("image/", "audio/", "video/", "font/", "text/csv", "text/tab-separated-values", "text/html", "text/xml"),
    *("application/xml", "application/pdf", "application/zip", "application/vnd.", "application/msgpack"),
)
#: The part of a form that holds the documents.
_FILE = "file"


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that has begun to arrive."""

    #: Fields of a form that came before its file; none where the body is the documents.
    fields: Mapping[str, str]
    pieces: AsyncIterator[bytes]
    #: Whose body it is.
    sender: Sender
    _read: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """What tells the documents that have been read from others."""
        return self._read.hexdigest()

    async def batches(self, most_line_bytes: int) -> AsyncIterator[list[bytes]]:
        """The lines, each with its newline, as many at a time as happened to arrive and can be dealt with in one turn.

        Others have their turns in between, also where there are no lines in what arrives.

        Args:
            most_line_bytes: A longer line is dropped; one that says so stands in its place.

        Raises:
            InvalidRequest: The form or the compression is broken.
            ClientDisconnect: The sender has gone; a line that had begun is not given.
        """
        splitter = LineSplitter(most_line_bytes)
        async for piece in self.pieces:
            lines = splitter.feed(piece)
            for start in range(0, len(lines), _TURN_LINES):
                yield self._noted(lines[start : start + _TURN_LINES])
                await self.sender.turn()
        if last := splitter.close():
            yield self._noted(last)

    def _noted(self, lines: list[bytes]) -> list[bytes]:
        self._read.update(b"".join(lines))
        return lines


async def open_upload(headers: Mapping[str, str], sender: Sender) -> Upload:
    """Read a body as far as its documents.

    Args:
        headers: Of the request.
        sender: Of the body.

    Raises:
        InvalidRequest: It is a form without a file.
        BodyTooLarge: The fields of the form are too long.
        UnsupportedMediaType: The body is said to be something else than documents, or is compressed in another way than
            gzip.
    """
    content_type = headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith(_OTHER_KINDS):
        raise UnsupportedMediaType(f"documents come as NDJSON (application/x-ndjson), not as {kind[:80]}")
    packed = is_packed(headers.get("content-encoding", ""))
    pieces = gunzipped(sender.pieces(), sender.turn) if packed else sender.pieces()
    if not content_type.lower().startswith("multipart/"):
        return Upload({}, _plain(pieces, sender), sender)
    events = read_form(pieces, content_type)
    fields = await _fields(events)
    return Upload(fields, _plain(_file(events), sender), sender)


async def with_pauses(batches: AsyncIterator[list[bytes]], pause_s: float) -> AsyncIterator[list[bytes]]:
    """The same batches, and an empty one each time that none has come for so many seconds."""
    following: asyncio.Future[list[bytes] | None] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(batches, None))
            done, _ = await asyncio.wait({following}, timeout=pause_s)
            if not done:
                yield []
            batch = await following
            if batch is None:
                return
            yield batch
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _plain(pieces: AsyncIterator[bytes], sender: Sender) -> AsyncIterator[bytes]:
    """The content of a file that may be compressed, whatever it is called."""
    beginning = b""
    async for piece in pieces:
        beginning += piece
        if len(beginning) >= len(GZIP_MAGIC):
            break
    whole = _joined(beginning, pieces)
    async for piece in gunzipped(whole, sender.turn) if beginning.startswith(GZIP_MAGIC) else whole:
        yield piece


async def _joined(beginning: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield beginning
    async for piece in pieces:
        yield piece


async def _fields(events: AsyncIterator[Part | bytes]) -> dict[str, str]:
    """The fields before the file."""
    fields: dict[str, str] = {}
    name, size = "", 0
    value = bytearray()
    async for event in events:
        if isinstance(event, Part):
            if name:
                fields[name] = value.decode("utf-8", "replace")
            if event.name == _FILE:
                return fields
            if event.filename is not None:
                raise InvalidRequest(f"the file must be the part `{_FILE}` of the form, not {event.name[:40]!r}")
            name = event.name
            value.clear()
            continue
        value += event
        size += len(event)
        if size > _MOST_FIELD_BYTES:
            raise BodyTooLarge(f"the fields of the form have more than {_MOST_FIELD_BYTES} bytes")
    raise InvalidRequest(f"the form has no part `{_FILE}`")


async def _file(events: AsyncIterator[Part | bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        if isinstance(event, Part):
            if event.name == _FILE:
                raise InvalidRequest(
                    f"the form has more than one `{_FILE}`, and one is taken; send each in its own request"
                )
            raise InvalidRequest(f"the part {event.name[:40]!r} comes after the file; options go before it")
        yield event
