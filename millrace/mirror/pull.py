"""Mirroring a model: fetched beside its place, compared with what the source says, and put there whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace.mirror.source import CannotPull, Listing, Source
from shared.errors import first_line
from shared.model_config import ConfigurationError, ModelConfig
from workers.manifest import BadManifest, Manifest, read_manifest, record_of, wrong_contents
from workers.weights import local_folder

#: Begins the names of tensors' files that are read as programs, or may be.
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model's mirror."""

    manifest: Manifest
    #: Whether anything was written; not so if the folder had it all.
    is_new: bool


def pull(source: Source, name: str, folder: Path) -> Pulled:
    """Mirror a model.

    Args:
        source: Where it is.
        name: What it is called there.
        folder: Where it goes; made if need be. A mirror that is there is replaced in one step.

    Raises:
        CannotPull: It cannot be had whole, or the folder holds something else.
    """
    there = _mirror_in(folder)
    listing = source.listing()
    if not any(path.endswith(".safetensors") for path in listing.files):
        raise CannotPull(f"{source.address} has no safetensors weights, and only those are read here")
    if there is not None and _has(there, listing, name) and not any(wrong_contents(folder, there)):
        return Pulled(there, is_new=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_folder(folder, listing.version)
    try:
        with _held(partial):
            _require_room(partial, listing)
            source.fetch(listing, partial)
            manifest = _checked(partial, listing, source, name)
            manifest.write(partial)
            _put(partial, folder)
    except OSError as err:
        raise CannotPull(f"{folder} cannot be written: {err.strerror or first_line(err)}") from err
    for left in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    return Pulled(manifest, is_new=True)


def _mirror_in(folder: Path) -> Manifest | None:
    """What is mirrored in a folder already; what else lies there is somebody's."""
    try:
        there = read_manifest(folder)
    except BadManifest as err:
        raise CannotPull(f"{err}; remove the folder to pull it anew") from err
    if there is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotPull(f"{folder} holds something that is no mirror: name another folder, or remove it")
    return there


def _has(there: Manifest, listing: Listing, name: str) -> bool:
    if (there.name, there.revision) != (name, listing.revision) or there.files.keys() != listing.files.keys():
        return False
    said = [(there.files[path], file) for path, file in listing.files.items()]
    # A commit's files never change; of a store without hashes nobody knows.
    known = listing.revision is not None or all(file.sha256 for _, file in said)
    return known and all(record.size == file.size and file.sha256 in ("", record.sha256) for record, file in said)


def partial_folder(folder: Path, version: str) -> Path:
    """Where a version is gathered: beside its place, so that it gets there by a rename."""
    return folder.parent / f".{folder.name}.{version[:16]}.partial"


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """Keep others from gathering the same in the same place."""
    partial.mkdir(exist_ok=True)
    place = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise CannotPull(f"another command is pulling into {partial}") from err
        yield
    finally:
        os.close(place)


def _require_room(partial: Path, listing: Listing) -> None:
    have = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    needed = sum(file.size for file in listing.files.values()) - have
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise CannotPull(f"{partial.parent} has room for {free:,} bytes, and {needed:,} more are needed")


def _checked(partial: Path, listing: Listing, source: Source, name: str) -> Manifest:
    """The manifest of what was fetched, if it is what the source has and a model."""
    records = {path: record_of(partial / path) for path in sorted(listing.files)}
    for path, file in listing.files.items():
        if not file.is_that_of(partial / path, records[path]):
            (partial / path).unlink()
            raise CannotPull(
                f"{path} came with other contents than {source.address} says it has; if it does again, it is damaged there"
            )
    _remove_strays(partial, listing)
    try:
        local_folder(ModelConfig(name="pulled", source=str(partial)))
    except ConfigurationError as err:
        raise CannotPull(f"{source.address} is no model: it has no config.json") from err
    return Manifest(name=name, source=listing.origin, revision=listing.revision, files=records)


def _remove_strays(partial: Path, listing: Listing) -> None:
    """What the fetching left beside the files: notes for resuming, parts."""
    kept = {partial / path for path in listing.files}
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _put(partial: Path, folder: Path) -> None:
    """Move it into its place. Of a mirror that was there, readers keep the files that they have open."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
