"""A JSON value that is parsed while it arrives, a few milliseconds at a time, with an end to what it may cost."""

import asyncio
from typing import Any

import ijson

from api.json_numbers import LEAST, MOST, as_float, refuse_long
from api.long_strings import LongString, after_open_quote, has_half_pair, quotes_in, whole_characters
from api.nesting import DEEPEST
from shared.errors import BatchTooLarge, InvalidJson, first_line

#: What the parser is given at a time: so much, and less while it finds many small values, such as token ids, in it.
_PIECE_BYTES, _DENSE_PIECE_BYTES = 64 * 1024, 16 * 1024
#: Values in a piece from which on they are many.
_MANY = 1024
#: Most values and keys, token ids mostly: each costs memory and time, also to be looked at by the collector and freed again.
_MOST_ENTRIES = 1 << 20
#: Most keys, and most lists and objects, for each of the inputs that may be in the value: they cost more.
_KEYS_PER_INPUT = 16
_CONTAINERS_PER_INPUT = 4
#: What the parser raises: of numbers also what decimals do.
_FAULTS = (ijson.JSONError, ValueError, ArithmeticError)


class JsonPieces:
    """A JSON value, and what of it has been read."""

    def __init__(self, most_inputs: int) -> None:
        """Begin.

        Args:
            most_inputs: Entries of the longest list in it that is worth reading.
        """
        self._most_keys = _KEYS_PER_INPUT * most_inputs
        self._most_containers = _CONTAINERS_PER_INPUT * most_inputs
        self._events = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events)
        #: What holds the value, then the value, then what of it is open; and the key that is next in each.
        self._open: list[Any] = [[]]
        self._keys: list[str | None] = [None]
        self._whole: list[Any] = self._open[0]
        self._entries = self._keys_read = self._containers = 0
        self._is_dense = False
        #: What has arrived and was not given to the parser: the beginning of a character.
        self._kept = b""
        self._inside_string = False
        #: The last piece, where it ends within a string.
        self._before = b""
        self._long: LongString | None = None

    async def take(self, chunk: bytes) -> None:
        """Parse a chunk, letting others run between its pieces.

        Raises:
            InvalidJson: It is no JSON.
            BodyTooLarge: It has a string that takes too much memory.
            BatchTooLarge: It has too many parts.
        """
        start = 0
        while start < len(chunk):
            end = start + (_DENSE_PIECE_BYTES if self._is_dense else _PIECE_BYTES)
            self._take(self._kept + chunk[start:end])
            start = end
            await asyncio.sleep(0)

    def value(self) -> Any:
        """The value, when all has arrived.

        Raises:
            InvalidJson: It is no JSON, or not a whole one.
        """
        if self._inside_string:
            raise InvalidJson("the body is not valid JSON: it ends within a string")
        try:
            self._parser.close()
        except _FAULTS as err:
            raise _invalid(err) from err
        self._build()
        return self._whole[0]

    def _take(self, piece: bytes) -> None:
        self._kept = b""
        long = self._long
        if long is not None:
            whole = whole_characters(piece)
            end = long.take(piece[:whole])
            if end is None:
                self._kept = piece[whole:]
                return
            piece, self._long = piece[end:], None
        quotes, began_inside = quotes_in(piece), self._inside_string
        self._inside_string = began_inside != (quotes % 2 == 1)
        if self._inside_string:
            whole = whole_characters(piece)
            piece, self._kept = piece[:whole], piece[whole:]
            if began_inside and not quotes:
                self._long = LongString()
                self._long.take(after_open_quote(self._before))
                self._long.take(piece)
                return
            self._before = piece
        refuse_long(piece, begins_inside=began_inside, ends_inside=self._inside_string)
        self._parse(piece, long)

    def _parse(self, piece: bytes, long: LongString | None) -> None:
        if not piece:  # which the parser would take for the end
            return
        if has_half_pair(piece):  # in the place of which the parser would put a question mark
            raise InvalidJson(
                "the body is not valid JSON: a string has half of a surrogate pair, such as \\ud83d alone"
            )
        try:
            self._parser.send(piece)
        except _FAULTS as err:
            raise _invalid(err) from err
        if long is not None and self._events:
            event, _ = self._events[0]
            self._events[0] = (event, long.text)
        self._build()
        if (
            self._entries > _MOST_ENTRIES
            or self._keys_read > self._most_keys
            or self._containers > self._most_containers
        ):
            raise BatchTooLarge("the body has far more entries than are taken at a time")

    def _build(self) -> None:
        """Put what the parser has found in its place. By hand: ijson's own builder takes longer, and counts nothing."""
        opened, keys = self._open, self._keys
        for event, value in self._events:
            if event == "map_key":
                keys[-1] = value
                self._keys_read += 1
                continue
            if event in ("end_map", "end_array"):
                opened.pop()
                keys.pop()
                continue
            if event == "start_map":
                value = {}
            elif event == "start_array":
                value = []
            elif event == "number" and (type(value) is not int or not LEAST <= value <= MOST):
                value = as_float(value)
            key = keys[-1]
            if key is None:
                opened[-1].append(value)
            else:
                opened[-1][key] = value
            if event in ("start_map", "start_array"):
                if len(opened) > DEEPEST:
                    raise InvalidJson(f"the body has lists or objects more than {DEEPEST} deep in each other")
                self._containers += 1
                opened.append(value)
                keys.append("" if event == "start_map" else None)
        self._entries += len(self._events)
        self._is_dense = len(self._events) > _MANY
        del self._events[:]


def _invalid(err: Exception) -> InvalidJson:
    """What the parser says, without the piece of the body that it shows."""
    if isinstance(err, UnicodeDecodeError):
        said = "it is not UTF-8"
    elif isinstance(err, ijson.JSONError):
        shown = err.args[0] if err.args else ""
        said = first_line(type(err)(shown.decode(errors="replace"))) if isinstance(shown, bytes) else first_line(err)
    else:
        said = "it has a number that is too long"
    return InvalidJson(f"the body is not valid JSON: {said}")
