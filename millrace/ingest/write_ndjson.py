"""Results as NDJSON: the service's own lines."""

import os
from pathlib import Path
from typing import IO

import orjson

from millrace.ingest.problems import InputProblem

_BLOCK_BYTES = 1 << 16


class NdjsonWriter:
    """Writes result lines as they come."""

    #: How vectors are to be written down in the lines.
    encoding = "float"

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Open the file.

        Args:
            path: Where it is.
            resume: Go on behind its last whole line.

        Raises:
            InputProblem: It is to be continued, but is something else.
        """
        self._file = path.open("r+b" if resume and path.exists() else "w+b")
        end, last = last_line(self._file)
        #: Number of the document whose result comes next.
        self.next_index = 0
        if last is not None:
            try:
                self.next_index = _index(last, path) + 1
            except InputProblem:
                self._file.close()
                raise
        self._file.truncate(end)
        self._file.seek(end)

    def write(self, lines: list[bytes]) -> None:
        """Add the results of the next documents."""
        self._file.write(b"".join(line + b"\n" for line in lines))
        self._file.flush()
        self.next_index += len(lines)

    def close(self) -> None:
        """Leave the file as it is, to be continued."""
        self._file.close()

    def finish(self) -> str:
        """All results are there; what was made, in words."""
        self.close()
        return f"{self.next_index:,} lines"


def last_line(file: IO[bytes]) -> tuple[int, bytes | None]:
    """Where the last whole line of a file ends, and that line; what stands behind it was torn."""
    end = _line_end(file, file.seek(0, os.SEEK_END))
    if end == 0:
        return 0, None
    start = _line_end(file, end - 1)
    file.seek(start)
    return end, file.read(end - start - 1)


def _line_end(file: IO[bytes], before: int) -> int:
    """Place behind the last line end in the first `before` bytes; 0 when there is none."""
    while before > 0:
        start = max(0, before - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(before - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        before = start
    return 0


def _index(line: bytes, path: Path) -> int:
    try:
        return int(orjson.loads(line)["index"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as err:
        raise InputProblem(f"{path} does not hold results of an ingest; choose another file with -o") from err
