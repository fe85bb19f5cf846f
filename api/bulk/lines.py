"""Bytes in any pieces to lines: NDJSON as it streams in, in constant memory whatever the lines are like."""

import re

#: Key of what stands in the place of a line that was too long; its value is the bytes that the line had.
TOO_LONG = "$too_long"

#: What JSON calls white space, over any number of lines: what is before a line is none of it.
_WHITE = re.compile(rb"[ \t\r\n]*")
#: A line from its first character that is not white. Found in C: a body of blank lines costs what its bytes cost.
_LINE = re.compile(rb"[^ \t\r\n][^\n]*\n")


class LineSplitter:
    """Puts lines together. Blank lines are left out; a line that is too long becomes a line that says so."""

    def __init__(self, most_bytes: int) -> None:
        """Start before the first line.

        Args:
            most_bytes: Longest line that is kept, without its end and the white space before it.
        """
        self._most_bytes = most_bytes
        #: The beginning of the line that has no end yet.
        self._begun = bytearray()
        #: Bytes of it that have gone by since it was found to be too long; 0 while it is not.
        self._dropped = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in a piece, each with its newline."""
        lines: list[bytes] = []
        start, end = 0, piece.rfind(b"\n") + 1
        if end and (self._begun or self._dropped):
            start = piece.find(b"\n") + 1
            self._take(piece, 0, start - 1)
            lines = self.close()
        if start < end:
            lines += self._kept(_LINE.findall(piece, start, end))
        self._take(piece, end, len(piece))
        return lines

    def close(self) -> list[bytes]:
        """The line that has begun, if there is one: what is last needs no newline."""
        lines: list[bytes] = []
        if self._dropped:
            lines = [_too_long(self._dropped)]
        elif self._begun:
            lines = [bytes(self._begun) + b"\n"]
        self._begun.clear()
        self._dropped = 0
        return lines

    def _kept(self, lines: list[bytes]) -> list[bytes]:
        longest = self._most_bytes + 1
        if not lines or max(map(len, lines)) <= longest:
            return lines
        return [line if len(line) <= longest else _too_long(len(line) - 1) for line in lines]

    def _take(self, piece: bytes, start: int, end: int) -> None:
        """More of a line without its end."""
        if not self._begun and not self._dropped and (white := _WHITE.match(piece, start, end)):
            start = white.end()
        size = end - start
        if self._dropped:
            self._dropped += size
        elif len(self._begun) + size > self._most_bytes:
            self._dropped = len(self._begun) + size
            self._begun.clear()
        else:
            self._begun += memoryview(piece)[start:end]


def _too_long(size_bytes: int) -> bytes:
    return b'{"%b":%d}\n' % (TOO_LONG.encode(), size_bytes)
