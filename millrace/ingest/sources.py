"""Where bytes come from: files, gzip files, standard input."""

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be read."""

    #: Path, or `-`.
    path: str
    #: What its documents are called where they have no id of their own.
    id: str

    @property
    def name(self) -> str:
        """For sentences."""
        return "standard input" if self.path == STDIN else self.path

    @property
    def is_rereadable(self) -> bool:
        """Whether it can be opened again at its beginning; a pipe cannot."""
        return self.path != STDIN and Path(self.path).is_file()

    @property
    def suffix(self) -> str:
        """What its name ends in, in small letters, without `.gz`."""
        return Path(self.path.lower().removesuffix(".gz")).suffix

    @contextmanager
    def binary(self) -> Iterator[IO[bytes]]:
        """Its bytes, unpacked."""
        if self.path == STDIN:
            yield sys.stdin.buffer
        elif self.path.lower().endswith(".gz"):
            with gzip.open(self.path, "rb") as file:
                yield cast("IO[bytes]", file)
        else:
            with Path(self.path).open("rb") as file:
                yield file

    @contextmanager
    def text(self, encoding: str, *, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
        """Its text; a byte order mark is left out."""
        with self.binary() as file:
            encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
            text = io.TextIOWrapper(file, encoding, newline=newline)
            try:
                yield text
            finally:
                text.detach()  # the file is not the wrapper's to close
