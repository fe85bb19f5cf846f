"""Request bodies: read within a limit, and parsed so that a large one holds nobody else up.

A parser in C keeps the event loop for as long as it takes: 0.1 to 1.4 s for 64 MiB. So what is large is parsed in pieces of
a few milliseconds each, as it arrives, and other requests have their turns in between.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import ijson
import orjson

from api.nesting import DEEPEST, is_too_deep
from shared.errors import BatchTooLarge, BodyTooLarge, InvalidJson, InvalidRequest

#: Bodies up to this size are parsed at once, in under a millisecond or two.
_AT_ONCE_BYTES = 256 * 1024
#: What the incremental parser is given at a time.
_PIECE_BYTES = 64 * 1024
#: Longest string; the incremental parser's time grows with the square of it. An image is the longest that makes sense.
_LONGEST_STRING_BYTES = 16 * 1024 * 1024
#: Most values and keys, and most lists and objects among them: each costs memory and time, also to be freed again.
_MOST_ENTRIES = 1 << 21
_MOST_CONTAINERS = 1 << 17
#: Most token ids of one input.
_MOST_TOKEN_IDS = 1 << 20


async def read_json_object(
    stream: AsyncIterator[bytes], headers: Mapping[bytes, bytes], *, limit_bytes: int, most_inputs: int
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        stream: The body as it arrives.
        headers: Of the request, names in lower case.
        limit_bytes: Size of the largest body.
        most_inputs: Entries of the longest list in it that is worth validating.

    Raises:
        BodyTooLarge: It is larger; told by its length before anything is read, where the caller states one.
        BatchTooLarge: One of its lists is longer.
        InvalidRequest: It is no JSON object.
    """
    stated = headers.get(b"content-length", b"0")
    if stated.isdigit() and int(stated) > limit_bytes:
        raise _too_large(limit_bytes)
    beginning = bytearray()
    pieces: _Pieces | None = None
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if pieces is None:
            beginning += chunk
            if len(beginning) <= _AT_ONCE_BYTES:
                continue
            pieces, chunk = _Pieces(), bytes(beginning)
        await pieces.take(chunk)
    data = _at_once(bytes(beginning)) if pieces is None else pieces.value()
    if not isinstance(data, dict):
        raise InvalidRequest("the body must be a JSON object")
    _refuse_long_lists(data, most_inputs)
    return data


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {limit_bytes} bytes; split it or raise MILLRACE_BODY_LIMIT_BYTES")


def _at_once(raw: bytes) -> Any:
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as err:
        raise InvalidJson(f"the body is not valid JSON: {err}") from err
    if is_too_deep(raw, data):
        raise _too_deep()
    return data


def _too_deep() -> InvalidJson:
    return InvalidJson(f"the body has lists or objects more than {DEEPEST} deep in each other")


class _Pieces:
    """A JSON value that is parsed while it arrives."""

    def __init__(self) -> None:
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events, use_float=True)
        #: What holds the value, then the value, then what of it is open; and the key that is next in each.
        self._open: list[Any] = [[]]
        self._keys: list[str | None] = [None]
        self._whole: list[Any] = self._open[0]
        self._since_quote = 0
        self._entries = 0
        self._containers = 0

    async def take(self, chunk: bytes) -> None:
        """Parse a chunk, letting others run between its pieces."""
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = chunk[start : start + _PIECE_BYTES]
            last_quote = piece.rfind(b'"')
            self._since_quote = self._since_quote + len(piece) if last_quote < 0 else len(piece) - last_quote
            if self._since_quote > _LONGEST_STRING_BYTES:
                raise BodyTooLarge(f"the body has a string of more than {_LONGEST_STRING_BYTES} bytes")
            try:
                self._parser.send(piece)
            except ijson.JSONError as err:
                raise InvalidJson(f"the body is not valid JSON: {err}") from err
            self._build()
            if self._entries > _MOST_ENTRIES or self._containers > _MOST_CONTAINERS:
                raise BatchTooLarge("the body has far more entries than are taken at a time")
            await asyncio.sleep(0)

    def _build(self) -> None:
        """Put what the parser has found in its place. By hand: ijson's own builder takes longer, and counts nothing."""
        opened, keys = self._open, self._keys
        for event, value in self._events:
            if event == "map_key":
                keys[-1] = value
                continue
            if event in ("end_map", "end_array"):
                opened.pop()
                keys.pop()
                continue
            if event == "start_map":
                value = {}
            elif event == "start_array":
                value = []
            key = keys[-1]
            if key is None:
                opened[-1].append(value)
            else:
                opened[-1][key] = value
            if event in ("start_map", "start_array"):
                self._containers += 1
                opened.append(value)
                if len(opened) > DEEPEST + 1:
                    raise _too_deep()
                keys.append("" if event == "start_map" else None)
        self._entries += len(self._events)
        del self._events[:]

    def value(self) -> Any:
        """The value, when all has arrived."""
        try:
            self._parser.close()
        except ijson.JSONError as err:
            raise InvalidJson(f"the body is not valid JSON: {err}") from err
        self._build()
        return self._whole[0]


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
