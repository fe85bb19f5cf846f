"""Request bodies: read within a limit, and parsed so that a large one holds nobody else up.

A parser in C keeps the event loop for as long as it takes: 0.1 to 1.4 s for 64 MiB. So what is large is parsed in pieces of
a few milliseconds each, as it arrives, and other requests have their turns in between (`api.json_pieces`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from api.json_pieces import JsonPieces
from api.nesting import DEEPEST, is_too_deep
from api.unpacking import GZIP_MAGIC, gunzipped, is_packed
from shared.errors import BatchTooLarge, BodyTooLarge, BodyTooSlow, InvalidJson, InvalidRequest

#: Bodies up to this size are parsed at once, in under a millisecond or two.
_AT_ONCE_BYTES = 256 * 1024
#: Most token ids of one input: more than any model reads.
_MOST_TOKEN_IDS = 1 << 18
#: Most bytes that a byte of gzip's data can stand for.
_MOST_DEFLATED = 1032
#: How long a body of options may take to arrive, in seconds.
_SMALL_BODY_S = 60.0


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A body that has been read."""

    value: dict[str, Any]
    #: Its bytes, unpacked.
    size: int
    #: Whether it is so large that it was parsed in pieces.
    is_large: bool


async def read_json_object(
    stream: AsyncIterator[bytes], headers: Mapping[bytes, bytes], *, limit_bytes: int, most_inputs: int
) -> dict[str, Any]:
    """The JSON object alone (see `read_body`), of a body that is small and there at once.

    Raises:
        BodyTooSlow: It is not.
    """
    try:
        async with asyncio.timeout(_SMALL_BODY_S):
            return (await read_body(stream, headers, limit_bytes=limit_bytes, most_inputs=most_inputs)).value
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {_SMALL_BODY_S:.0f} s") from None


async def not_idle(stream: AsyncIterator[bytes], idle_s: float) -> AsyncIterator[bytes]:
    """The same chunks, as long as they come.

    Args:
        stream: A body that may take any time to arrive.
        idle_s: How long its sender may be silent, in seconds.

    Raises:
        BodyTooSlow: They are there and send nothing.
    """
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise idle(idle_s) from None
        if chunk is None:
            return
        yield chunk


def idle(idle_s: float) -> BodyTooSlow:
    """The error of a sender that has been silent for so many seconds."""
    return BodyTooSlow(f"nothing more of the body has come for {idle_s:g} s")


async def read_body(
    stream: AsyncIterator[bytes],
    headers: Mapping[bytes, bytes],
    *,
    limit_bytes: int,
    most_inputs: int,
    make_room: Callable[[int], Awaitable[None]] | None = None,
) -> JsonBody:
    """Read a JSON object, which may be compressed with gzip.

    Args:
        stream: The body as it arrives.
        headers: Of the request, names in lower case.
        limit_bytes: Size of the largest body, as it comes and as it is when it is unpacked.
        most_inputs: Entries of the longest list in it that is worth validating.
        make_room: Waits until there is room for so many bytes. A large body is read no further before, and its sender waits.

    Raises:
        BodyTooLarge: It is larger; told by its length before anything is read, where the caller states one.
        BatchTooLarge: One of its lists is longer.
        UnsupportedMediaType: It is compressed in another way.
        InvalidRequest: It is no JSON object.
    """
    stated = headers.get(b"content-length", b"")
    size = int(stated) if stated.isdigit() else limit_bytes
    if size > limit_bytes:
        raise _too_large(limit_bytes)
    arriving = _within(stream, limit_bytes)
    if is_packed(headers.get(b"content-encoding", b"").decode("latin-1")):
        size = min(limit_bytes, _MOST_DEFLATED * size)  # how much there is in it nobody knows before
        arriving = _within(gunzipped(arriving, _turn), limit_bytes)
    beginning = bytearray()
    pieces: JsonPieces | None = None
    unpacked = 0
    async for chunk in arriving:
        unpacked += len(chunk)
        if pieces is None:
            beginning += chunk
            if len(beginning) <= _AT_ONCE_BYTES:
                continue
            _refuse_other_encodings(beginning)
            if make_room is not None:
                await make_room(size)
            pieces, chunk = JsonPieces(most_inputs), bytes(beginning)
        await pieces.take(chunk)
    data = _at_once(bytes(beginning)) if pieces is None else pieces.value()
    if not isinstance(data, dict):
        raise InvalidRequest("the body must be a JSON object")
    _refuse_long_lists(data, most_inputs)
    return JsonBody(data, unpacked, is_large=pieces is not None)


async def _within(stream: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """The same chunks, as long as they are not too many bytes."""
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        yield chunk


async def _turn() -> None:
    await asyncio.sleep(0)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {limit_bytes} bytes; split it or raise MILLRACE_BODY_LIMIT_BYTES")


def _at_once(raw: bytes) -> Any:
    _refuse_other_encodings(raw)
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as err:
        raise InvalidJson(f"the body is not valid JSON: {_not_utf_8(raw) or err}") from err
    if is_too_deep(raw, data):
        raise _too_deep()
    return data


def _refuse_other_encodings(beginning: bytes | bytearray) -> None:
    """Refuse by its first bytes what is no JSON in UTF-8, which would be called wrong in a letter."""
    if beginning.startswith(GZIP_MAGIC):
        raise InvalidJson("the body is gzip's data; say so in a header, `content-encoding: gzip`")
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in beginning[:4]:
        raise InvalidJson("the body looks like UTF-16 or UTF-32; JSON is sent as UTF-8")


def _not_utf_8(raw: bytes) -> str | None:
    """Where it stops being UTF-8, if it does."""
    try:
        raw.decode()
    except UnicodeDecodeError as err:
        return f"it is not UTF-8, from byte {err.start} on"
    return None


def _too_deep() -> InvalidJson:
    return InvalidJson(f"the body has lists or objects more than {DEEPEST} deep in each other")


def _refuse_long_lists(data: Mapping[str, Any], most: int) -> None:
    """Validation takes microseconds for each entry: seconds, where there are millions. Their number is known at once."""
    for name, value in data.items():
        if not isinstance(value, list):
            continue
        numbers = bool(value) and isinstance(value[0], int)
        if len(value) > (_MOST_TOKEN_IDS if numbers else most):
            raise BatchTooLarge(f"`{name}` has {len(value)} entries, far more than are taken at a time", param=name)
        if any(isinstance(entry, (list, dict)) and len(entry) > _MOST_TOKEN_IDS for entry in value):
            raise BatchTooLarge(f"an entry of `{name}` has more than {_MOST_TOKEN_IDS} parts", param=name)
