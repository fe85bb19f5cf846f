"""A mirrored model's manifest: which revision its files are of, and each file's size and hash."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workers.model_files import is_needed

#: Lies beside the files that it lists.
MANIFEST = "millrace-manifest.json"

_BLOCK_BYTES = 8 << 20


class BadManifest(Exception):
    """A manifest cannot be read; the message is one sentence that names it."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\\" in path:
        raise ValueError(f"{path!r} does not lie in the folder")
    return path


#: Path of a file relative to the model's folder, with `/`.
RelativePath = Annotated[str, AfterValidator(_inside)]


class FileRecord(BaseModel):
    """What a file has to be."""

    model_config = ConfigDict(frozen=True)

    #: In bytes.
    size: int = Field(ge=0)
    #: In hexadecimal.
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """What was mirrored, from where."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    #: The model's name at its source.
    name: str
    #: Where it came from; an address without credentials, or a folder.
    source: str
    #: The hub's commit; None for what never came from the hub.
    revision: str | None = None
    files: dict[RelativePath, FileRecord] = Field(min_length=1)

    def write(self, folder: Path) -> None:
        """Put it into its folder."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files.values())


def read_manifest(folder: Path) -> Manifest | None:
    """A folder's manifest; None where there is none.

    Raises:
        BadManifest: There is one, and it is wrong.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise BadManifest(f"{folder / MANIFEST} cannot be read: {err.strerror}") from err
    return parse_manifest(text, str(folder / MANIFEST))


def parse_manifest(text: bytes, where: str) -> Manifest:
    """A manifest from its file's contents.

    Args:
        text: The contents.
        where: What the file is called in the error.

    Raises:
        BadManifest: It is none.
    """
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadManifest(f"{where} is no manifest: {place}: {first['msg']}") from err


def record_of(path: Path) -> FileRecord:
    """Size and hash of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileRecord(size=size, sha256=digest.hexdigest())


def files_of(folder: Path) -> Iterable[str]:
    """Relative paths of the files in a folder that a model needs, the manifest excepted."""
    paths = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path != MANIFEST and is_needed(path)]


def wrong_sizes(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for each file that is missing or has another size; costs no reading."""
    for path, record in manifest.files.items():
        if fault := _wrong_size(folder, path, record):
            yield fault


def wrong_contents(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for each file that is not what was mirrored, or was not mirrored at all; reads everything."""
    for path, record in manifest.files.items():
        if fault := _wrong_size(folder, path, record):
            yield fault
        elif record_of(folder / path).sha256 != record.sha256:
            yield f"{path} has other contents than its manifest says"
    for path in files_of(folder):
        if path not in manifest.files:
            yield f"{path} is not in the manifest"


def _wrong_size(folder: Path, path: str, record: FileRecord) -> str:
    try:
        size = (folder / path).stat().st_size
    except OSError as err:
        return f"{path} cannot be read: {err.strerror}"
    return "" if size == record.size else f"{path} has {size:,} bytes, and its manifest says {record.size:,}"
