"""What a model can be mirrored from: the protocol of a source, and what it says it has."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.manifest import FileRecord


class CannotPull(Exception):
    """A model cannot be mirrored; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at its source."""

    #: In bytes.
    size: int
    #: What the source says of its contents, in hexadecimal; empty where it says nothing.
    sha256: str = ""
    #: git's name of its contents: SHA-1 over a header and them; empty where it has none.
    git_blob: str = ""

    def is_that_of(self, path: Path, record: FileRecord) -> bool:
        """Whether a file that was fetched is this one."""
        if record.size != self.size or (self.sha256 and record.sha256 != self.sha256):
            return False
        return not self.git_blob or _git_blob(path) == self.git_blob


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source has, at one moment."""

    #: Where the files came from first: the source's address, or what its own manifest says.
    origin: str
    #: The hub's commit; None for what never came from the hub.
    revision: str | None
    #: Changes when the files do: what is half fetched is only added to if this is the same.
    version: str
    #: The needed ones, by relative path.
    files: Mapping[str, RemoteFile]


class Source(Protocol):
    """Where files come from."""

    #: An address without credentials, or a folder.
    address: str

    def listing(self) -> Listing:
        """What it has.

        Raises:
            CannotPull: It cannot be asked.
        """

    def fetch(self, listing: Listing, folder: Path) -> None:
        """Bring the files of a listing that are not whole in a folder yet.

        Raises:
            CannotPull: One cannot be had.
        """


def _git_blob(path: Path) -> str:
    """Name of a file's contents in a git repository."""
    contents = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()
