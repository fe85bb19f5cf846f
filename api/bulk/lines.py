"""Bytes in any pieces to lines: NDJSON as it streams in, in constant memory whatever the lines are like."""

from collections.abc import Iterator

#: Key of what stands in the place of a line that was too long; its value is the bytes that the line had.
TOO_LONG = "$too_long"

#: What JSON calls white space; a line of nothing else is blank.
_WHITE = b" \t\r"


class LineSplitter:
    """Puts lines together. Blank lines are left out; a line that is too long becomes a line that says so."""

    def __init__(self, most_bytes: int) -> None:
        """Start before the first line.

        Args:
            most_bytes: Longest line that is kept, without its end.
        """
        self._most_bytes = most_bytes
        #: The beginning of the line that has no end yet.
        self._begun = bytearray()
        #: Bytes of it that have gone by since it was found to be too long; 0 while it is not.
        self._dropped = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in a piece, each with its newline."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._take(piece, start, end)
            yield from self.close()
            start = end + 1
        self._take(piece, start, len(piece))

    def close(self) -> Iterator[bytes]:
        """The line that has begun, if there is one: what is last needs no newline."""
        if self._dropped:
            yield b'{"%b":%d}\n' % (TOO_LONG.encode(), self._dropped)
        elif self._begun.strip(_WHITE):
            yield bytes(self._begun) + b"\n"
        self._begun.clear()
        self._dropped = 0

    def _take(self, piece: bytes, start: int, end: int) -> None:
        size = end - start
        if self._dropped:
            self._dropped += size
        elif len(self._begun) + size > self._most_bytes:
            self._dropped = len(self._begun) + size
            self._begun.clear()
        else:
            self._begun += memoryview(piece)[start:end]
