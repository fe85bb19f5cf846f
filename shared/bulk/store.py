"""The store: files of bulk jobs, in a folder or in anything that fsspec reaches (`s3://`, `gs://`, `az://` ...).

Files are written whole or not at all, and never changed: a reader sees all of a file or none, also after the power has
failed. All calls block; an event loop makes them in a thread.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

import fsspec

from shared.errors import NotStored, StorageFull, StorageUnavailable, first_line

#: Bytes that are read at a time.
BLOCK_BYTES = 1 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Store:
    """Files by relative path."""

    def __init__(self, url: str) -> None:
        """Open the store.

        Args:
            url: A folder, which is made, or an fsspec URL; its options come from fsspec's own configuration and the
                environment variables of the object store's client.

        Raises:
            StorageUnavailable: No such kind of store is installed, or the URL is wrong.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as err:
            raise StorageUnavailable(f"the store of bulk jobs cannot be used: {first_line(err)}") from err
        self._root = PurePosixPath(root)
        #: Files of a folder appear by a rename; object stores put whole objects anyhow.
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def write(self, path: str, data: bytes) -> None:
        """Write a file.

        Raises:
            StorageFull: There is no room.
            StorageUnavailable: It cannot be written for another reason.
        """
        with self.writer(path) as file:
            file.write(data)

    @contextmanager
    def writer(self, path: str) -> Iterator[IO[bytes]]:
        """A file to be written piece by piece; it appears when the block ends without an error."""
        target = self._path(path)
        with _named_errors():
            if self._local:
                with self._local_writer(target) as file:
                    yield file
                return
            file = self._fs.open(target, "wb", autocommit=False)
            try:
                yield file
                file.close()
                file.commit()
            except BaseException:
                file.discard()
                raise

    @contextmanager
    def _local_writer(self, target: str) -> Iterator[IO[bytes]]:
        # Beside its place, so that the rename stays within a file system.
        written = Path(f"{target}.{uuid4().hex[:8]}.part")
        written.parent.mkdir(parents=True, exist_ok=True)
        try:
            with written.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            written.replace(target)
            _keep_names(written.parent)
        except BaseException:
            written.unlink(missing_ok=True)
            raise

    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            NotStored: There is no such file.
            StorageUnavailable: It cannot be read.
        """
        with _named_errors():
            data: bytes = self._fs.cat_file(self._path(path))
            return data

    def blocks(self, path: str) -> Iterator[bytes]:
        """A file's bytes, `BLOCK_BYTES` at a time."""
        with _named_errors(), self._fs.open(self._path(path), "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there is no error."""
        with _named_errors():
            try:
                self._fs.rm(self._path(path), recursive=True)
            except FileNotFoundError:
                return

    def _path(self, path: str) -> str:
        return str(self._root / path)


def _keep_names(folder: Path) -> None:
    """Have the disk keep which files a folder has, as `os.fsync` has it keep what is in one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno != errno.EINVAL:  # a network file system that does so by itself
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as err:
        raise NotStored(f"{PurePosixPath(str(err.filename or err)).name} is not in the store") from err
    except OSError as err:
        if err.errno in _FULL:
            raise StorageFull from err
        raise StorageUnavailable(f"the store cannot be used: {err.strerror or first_line(err)}") from err
    except Exception as err:
        if type(err).__module__.split(".")[0] in ("botocore", "aiobotocore", "google", "azure", "gcsfs", "adlfs"):
            raise StorageUnavailable(f"the store cannot be used: {first_line(err)}") from err
        raise


def input_path(job_id: str, segment: int, writer: str) -> str:
    """Input lines of a segment; `writer` tells apart what two uploads would have written in the same place."""
    return f"jobs/{job_id}/input/{segment // 1000:05d}/{segment:08d}-{writer}.ndjson"


def output_path(job_id: str, segment: int) -> str:
    """Results of a segment: an ingest's as `SegmentResults`, a batch's as lines."""
    return f"jobs/{job_id}/output/{segment // 1000:05d}/{segment:08d}"


def errors_path(job_id: str, segment: int) -> str:
    """Error lines of a batch's segment; absent when there are none."""
    return f"jobs/{job_id}/errors/{segment // 1000:05d}/{segment:08d}"


def job_folder(job_id: str) -> str:
    """All files of a job."""
    return f"jobs/{job_id}"


def upload_path(file_id: str) -> str:
    """An uploaded file."""
    return f"files/{file_id}"
