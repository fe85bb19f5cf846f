"""Answers as JSON. A large one is written in pieces, each of a few milliseconds."""

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import wire
from api.room import Guest

JSON = "application/json"
#: Numbers and strings in a piece.
_PIECE = 1 << 15
#: Characters that take as long as a number.
_CHARACTERS = 64


def pieces(value: Any) -> list[bytes]:
    """The JSON of a value, as `wire.dumps` writes it, in pieces."""
    written: list[bytes] = []
    _write(value, written)
    return written


def response(content: Sequence[bytes], status: int, headers: Mapping[str, str], guest: Guest | None = None) -> Response:
    """The answer of some pieces of JSON; several leave one after the other, as fast as the caller takes them.

    Args:
        content: The pieces.
        status: Of the answer.
        headers: Of the answer.
        guest: Has room for them, and gives it back as they leave, and all that is left when nobody takes the rest.
    """
    if len(content) == 1 and guest is None:
        return Response(content[0], status_code=status, headers=headers, media_type=JSON)
    size = {"content-length": str(sum(map(len, content)))}
    return _Pieces(deque(content), guest, status_code=status, headers={**headers, **size}, media_type=JSON)


class _Pieces(StreamingResponse):
    """An answer of which nothing is kept that has left."""

    def __init__(self, content: deque[bytes], guest: Guest | None, **named: Any) -> None:
        super().__init__(_each(content, guest), **named)
        self._guest = guest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._guest is not None:
                self._guest.leave()


async def _each(content: deque[bytes], guest: Guest | None) -> AsyncIterator[bytes]:
    left = sum(map(len, content))
    while content:
        piece = content.popleft()
        yield piece
        left -= len(piece)
        if guest is not None:
            guest.answer_is(left)


def _write(value: Any, written: list[bytes]) -> None:
    if _weight(value) <= _PIECE:
        written.append(wire.dumps(value))
    elif isinstance(value, dict):
        between = b"{"
        for key, entry in value.items():
            written.append(between + wire.dumps(key) + b":")
            _write(entry, written)
            between = b","
        written.append(b"}")
    elif isinstance(value, (list, tuple, np.ndarray)):
        between = b"["
        for group in _groups(value):
            written.append(between)
            if len(group) == 1 and _weight(group[0]) > _PIECE:
                _write(group[0], written)
            else:
                written.append(wire.dumps(group)[1:-1])
            between = b","
        written.append(b"]")
    else:
        written.append(wire.dumps(value))


def _groups(value: Sequence[Any] | npt.NDArray[Any]) -> Iterator[Sequence[Any] | npt.NDArray[Any]]:
    """The entries of a list, as many at a time as fit into a piece, at least one."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        yield from (value[start : start + _PIECE] for start in range(0, len(value), _PIECE))
        return
    group: list[Any] = []
    weight = 0
    for entry in value:
        weight += _weight(entry)
        if group and weight > _PIECE:
            yield group
            group, weight = [], _weight(entry)
        group.append(entry)
    if group:
        yield group


def _weight(value: Any) -> int:
    """How long a value takes to write, in numbers."""
    if isinstance(value, np.ndarray):
        return 1 + value.size
    if isinstance(value, str):
        return 1 + len(value) // _CHARACTERS
    if isinstance(value, dict):
        return 1 + sum(map(_weight, value.values()))
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_weight, value))
    return 1
