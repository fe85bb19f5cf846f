"""Mirroring from a folder, or from anything that fsspec reaches: `s3://`, `gs://`, `az://`, `file://` ..."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from millrace.mirror.source import CannotPull, Listing, RemoteFile
from shared.errors import first_line
from workers.manifest import MANIFEST, BadManifest, Manifest, parse_manifest
from workers.model_files import is_needed

_BLOCK_BYTES = 8 << 20
#: Our own extras that bring what fsspec needs for a scheme.
_EXTRAS = {"s3": "s3", "s3a": "s3"}
#: Clients of object stores have error classes of their own.
_CLIENTS = ("botocore", "aiobotocore", "google", "azure", "gcsfs", "adlfs", "aiohttp")


class StoreSource:
    """A model's folder, with a manifest or without one."""

    def __init__(self, url: str, revision: str | None) -> None:
        """Open it; credentials come from the environment, as the object store's client reads it.

        Args:
            url: A folder, or an fsspec URL of one.
            revision: What the folder's manifest has to say; anything when None.

        Raises:
            CannotPull: No such kind of store can be used here.
        """
        self.address = _without_credentials(url)
        self._revision = revision
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError as err:
            extra = _EXTRAS.get(url.partition("://")[0])
            advice = f"pip install 'millrace[{extra}]'" if extra else first_line(err)
            raise CannotPull(f"{self.address} cannot be read without another package: {advice}") from err
        except (ValueError, OSError) as err:
            raise CannotPull(f"{self.address} cannot be read: {first_line(err)}") from err
        self._root = PurePosixPath(root)

    def listing(self) -> Listing:
        """What the folder has; if it has a manifest, what that says."""
        with self._named_errors():
            found: Mapping[str, Mapping[str, Any]] = {
                PurePosixPath(path).relative_to(self._root).as_posix(): about
                for path, about in self._fs.find(str(self._root), detail=True).items()
            }
        if not found:
            raise CannotPull(f"{self.address} is not there, or is empty")
        manifest = self._manifest() if MANIFEST in found else None
        if self._revision is not None and (manifest is None or manifest.revision != self._revision):
            said = f"says revision {manifest.revision}" if manifest else "is missing"
            raise CannotPull(f"{self.address} is not known to be revision {self._revision}: its {MANIFEST} {said}")
        if manifest is None:
            files = {path: RemoteFile(size=int(about["size"])) for path, about in found.items() if is_needed(path)}
        else:
            files = {path: RemoteFile(file.size, sha256=file.sha256) for path, file in manifest.files.items()}
        files.pop(MANIFEST, None)
        if missing := sorted(files.keys() - found.keys()):
            raise CannotPull(f"{self.address} lacks {missing[0]}, which its {MANIFEST} lists")
        return Listing(
            origin=manifest.source if manifest else self.address,
            revision=manifest.revision if manifest else None,
            version=_version(self.address, {path: found[path] for path in files}),
            files=files,
        )

    def fetch(self, listing: Listing, folder: Path) -> None:
        """Bring what is not there yet, each file from where its last attempt ended."""
        for path, file in listing.files.items():
            target = folder / path
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.part")
            with self._named_errors(), self._fs.open(str(self._root / path), "rb") as remote, part.open("ab") as local:
                if local.tell() > file.size:
                    local.truncate(0)
                remote.seek(local.tell())
                while block := remote.read(_BLOCK_BYTES):
                    local.write(block)
            part.replace(target)

    def _manifest(self) -> Manifest:
        try:
            with self._named_errors():
                return parse_manifest(self._fs.cat_file(str(self._root / MANIFEST)), f"{self.address}/{MANIFEST}")
        except BadManifest as err:
            raise CannotPull(str(err)) from err

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise CannotPull(f"{self.address} cannot be read: {first_line(err)}") from err
        except Exception as err:
            if type(err).__module__.split(".")[0] in _CLIENTS:
                raise CannotPull(f"{self.address} cannot be read: {first_line(err)}") from err
            raise


def _without_credentials(url: str) -> str:
    """An address that may be shown and written down."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return str(Path(url).expanduser())
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}".rstrip("/")


def _version(address: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Changes with anything that the store tells of the files: their sizes, times, tags."""
    told = [address, *((path, sorted(about.items(), key=itemgetter(0))) for path, about in sorted(found.items()))]
    return hashlib.sha256(repr(told).encode()).hexdigest()
