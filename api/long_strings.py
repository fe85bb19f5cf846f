"""Long strings in JSON that arrives in pieces: decoded piece by piece, beside the parser.

The incremental parser looks at an unfinished string again from its beginning with each piece: the time for one string grows
with the square of its length, and 60 MB would take it a minute. So what is inside of a string is told here, by its quotes;
one that fills a whole piece is decoded here, and the parser gets its beginning and its end only.
"""

import re

import orjson

from shared.errors import BodyTooLarge, InvalidJson

#: Longest string, in bytes of memory: one that widens near its end, from a byte a character to more, is copied at once.
_LONGEST_BYTES = 160 * 1024 * 1024
#: What stands in a string before the quote that ends it.
_CONTENT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]..")
#: Whole escapes and other characters, none of them half of a pair.
_WHOLE_PAIRS = re.compile(
    rb"(?:[^\\]++|\\(?!u[dD][89a-fA-F]).|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+", re.DOTALL
)
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
#: Longest thing in a string that must not be cut: two escapes that are one character together.
_LONGEST_UNIT = 12


def quotes_in(piece: bytes) -> int:
    """How many quotes of a piece of JSON are not escaped; the piece must not begin in the middle of an escape."""
    quotes = piece.count(b'"')
    if quotes and b"\\" in piece:
        quotes = piece.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
    return quotes


def whole_characters(piece: bytes) -> int:
    """How many bytes of a piece that ends within a string are whole characters and whole escapes."""
    end = len(piece)
    for start in range(end - 1, max(-1, end - _LONGEST_UNIT), -1):
        if piece[start] >= 0xC0:  # the first byte of several in UTF-8
            return start if end - start < _utf8_length(piece[start]) else end
        if piece[start] == 0x5C and _begins_escape(piece, start):
            if end - start < (6 if piece[start + 1 : start + 2] == b"u" else 2):
                # Half of a pair has to stay with the other half.
                return start - 6 if _is_high_surrogate(piece, start - 6) else start
            return start if end - start == 6 and _is_high_surrogate(piece, start) else end
    return end


def _utf8_length(first: int) -> int:
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _begins_escape(piece: bytes, at: int) -> bool:
    """Whether a backslash is not itself escaped."""
    before = piece[:at]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def _is_high_surrogate(piece: bytes, at: int) -> bool:
    return at >= 0 and _HIGH_SURROGATE.match(piece, at) is not None and _begins_escape(piece, at)


def has_half_pair(piece: bytes) -> bool:
    """Whether half of a surrogate pair is in a piece of JSON, which is no character.

    Args:
        piece: Begins with a whole character and ends with one, or outside of strings.
    """
    if b"\\ud" not in piece and b"\\uD" not in piece:
        return False
    found = _WHOLE_PAIRS.match(piece)
    return found is not None and piece[found.end() : found.end() + 2] == b"\\u"


def after_open_quote(piece: bytes) -> bytes:
    """What a piece that ends within a string has of it; the string must have begun in the piece."""
    at = len(piece)
    while True:
        at = piece.rfind(b'"', 0, at)
        run = at
        while run > 0 and piece[run - 1] == 0x5C:
            run -= 1
        if (at - run) % 2 == 0:
            return piece[at + 1 :]


class LongString:
    """A string, as far as it has been decoded."""

    def __init__(self) -> None:
        self.text = ""
        #: Of a character in memory; Python's strings have room for the widest one in each place.
        self._width = 1

    def take(self, piece: bytes) -> int | None:
        """Decode what of a piece belongs to it.

        Args:
            piece: Begins with a whole character.

        Returns:
            Where the quote stands that ends the string; None if the piece ends before.

        Raises:
            InvalidJson: It is no JSON string.
            BodyTooLarge: It takes too much memory.
        """
        found = _CONTENT.match(piece)
        end = found.end() if found is not None else 0
        closed = piece[end : end + 1] == b'"'
        try:
            part: str = orjson.loads(b'"' + piece[: end if closed else len(piece)] + b'"')
        except orjson.JSONDecodeError as err:
            raise InvalidJson(f"the body is not valid JSON: {err.msg}, in a long string") from err
        if not part.isascii():
            self._width = max(self._width, 4 if _ASTRAL.search(part) else 2)
        if (len(self.text) + len(part)) * self._width > _LONGEST_BYTES:
            raise BodyTooLarge(f"a string in the body takes more than {_LONGEST_BYTES} bytes of memory; split it")
        # In a variable: CPython lets a string grow in place that nothing else refers to. Putting all the parts together
        # in the end would be a pause of its own.
        text, self.text = self.text, ""
        text += part
        self.text = text
        return end if closed else None
