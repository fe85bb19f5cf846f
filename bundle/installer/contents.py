"""A bundle's contents: unpacked where they come as an archive, and compared with their checksums."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import Refused, say

#: The checksums of all other files, as `sha256sum` writes them.
SUMS = "SHA256SUMS"

_BLOCK_BYTES = 8 << 20


@contextmanager
def opened(bundle: Path, checksum: str | None, to: Path) -> Iterator[Path]:
    """The bundle as a folder; an archive is unpacked for as long as it takes."""
    if bundle.is_dir():
        yield bundle
        return
    if not bundle.is_file():
        raise Refused(f"there is no bundle {bundle}")
    _check_archive(bundle, checksum)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=to) as name:
        say(f"Unpacking {bundle.name} ...")
        try:
            with tarfile.open(bundle, "r:") as archive:
                tops = {_unpack(archive, member, Path(name)) for member in archive}
        except (tarfile.TarError, EOFError) as err:
            raise Refused(f"{bundle} is truncated or no archive ({err}); copy it again") from err
        if len(tops) != 1:
            raise Refused(f"{bundle} is no bundle")
        yield Path(name) / tops.pop()


def verify(bundle: Path) -> None:
    """Compare every file with its checksum.

    Raises:
        Refused: One is wrong, missing or unknown; the message names it.
    """
    try:
        lines = (bundle / SUMS).read_text().splitlines()
        sums = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    except (FileNotFoundError, UnicodeDecodeError) as err:
        raise Refused(f"{bundle} is no bundle, or a damaged one: it has no {SUMS}") from err
    present = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_symlink() or path.is_file()}
    for path in sorted(present - sums.keys() - {SUMS}):
        raise Refused(f"{path} does not belong to the bundle: {SUMS} does not list it")
    for path, digest in sums.items():
        if path not in present:
            raise Refused(f"{path} is missing: the bundle is incomplete, copy it again")
        if (bundle / path).is_symlink() or sha256(bundle / path) != digest:
            raise Refused(f"{path} is damaged or was changed: its checksum is not that in {SUMS}")


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_archive(bundle: Path, checksum: str | None) -> None:
    """Compare the whole archive with the checksum that was given, or that lies beside it."""
    beside = bundle.with_name(f"{bundle.name}.sha256")
    wanted = checksum or (beside.read_text().partition(" ")[0] if beside.exists() else "")
    if wanted and sha256(bundle) != wanted.strip().lower():
        raise Refused(f"{bundle} is damaged or was changed: its checksum is not {wanted}")


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> str:
    """Write a file, if it is one and lies in the folder; its first folder's name."""
    path = Path(member.name)
    contents = archive.extractfile(member) if member.isreg() else None
    if contents is None or path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise Refused(f"{member.name} does not belong into a bundle")
    (to / path).parent.mkdir(parents=True, exist_ok=True)
    with contents, (to / path).open("wb") as file:
        shutil.copyfileobj(contents, file, _BLOCK_BYTES)
    return path.parts[0]
