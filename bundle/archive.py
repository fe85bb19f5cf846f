"""A folder as a bundle: checksums of every file, and one archive that is the same whenever it is made of the same."""

import tarfile
from pathlib import Path

from bundle.installer.contents import SUMS, sha256
from bundle.installer.release import ABOUT

#: Come first, so that whoever has only a part of an archive has what says so.
_FIRST = ("install.sh", "python-version", ABOUT, SUMS)


def seal(folder: Path) -> None:
    """Write the checksums of a bundle's files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}" for path in paths]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def pack(folder: Path, archive: Path, epoch: int) -> str:
    """Write a bundle's archive, and its checksum beside it.

    Args:
        folder: The bundle; its name is the archive's top folder.
        archive: The file, which appears when it is whole.
        epoch: The time of all files in it, in seconds.

    Returns:
        The archive's SHA-256.
    """
    partial = archive.with_name(f".{archive.name}.partial")
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent != folder)
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as written:
        for path in [*(folder / name for name in _FIRST), *paths]:
            member = written.gettarinfo(path, arcname=f"{folder.name}/{path.relative_to(folder).as_posix()}")
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if path.suffix == ".sh" else 0o644
            with path.open("rb") as file:
                written.addfile(member, file)
    digest = sha256(partial)
    partial.replace(archive)
    # As `sha256sum --check` reads it.
    archive.with_name(f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")
    return digest
