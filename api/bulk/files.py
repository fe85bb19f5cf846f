"""Files of batches: records in Redis, bytes in the store.

An uploaded file is one file of the store. What a batch has put out is not copied into one: its record names the job, and its
bytes are those of the job's segments, in order.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import cast
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import WatchError

from shared import keys, lua
from shared.bulk.jobs import FilePart, FileRecord, Job
from shared.bulk.store import Store, errors_path, output_path, upload_path
from shared.bulk.table import JobTable, page
from shared.errors import NotStored, StorageFull

#: What callers upload, and what batches put out.
BATCH, BATCH_OUTPUT = "batch", "batch_output"
#: How many records are read at a time.
_PAGE = 1000


def new_file_id() -> str:
    """A fresh id."""
    return f"file-{uuid4().hex[:24]}"


class FileTable:
    """File records by id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(lua.script("bulk/add_file"))

    async def room(self, quota_bytes: int) -> int | None:
        """Bytes that may still be stored; None for any number.

        Raises:
            StorageFull: There is no room at all.
        """
        if not quota_bytes:
            return None
        room = quota_bytes - int(await self._redis.get(keys.STORED_BYTES) or 0)
        if room <= 0:
            raise StorageFull(
                f"the store's quota of {quota_bytes:,} bytes is used up; delete jobs and files or raise it"
            )
        return room

    async def add(self, record: FileRecord) -> None:
        """Add a record; an uploaded file takes room from here on, an output has been counted with its job."""
        await self._add(
            keys=[keys.file(record.id), keys.STORED_BYTES, *_indexes(record)],
            args=[record.model_dump_json(), record.id, record.created_at, record.bytes if record.job is None else 0],
        )

    async def get(self, file_id: str, *, param: str | None = None, tenant: str | None = None) -> FileRecord:
        """A file's record.

        Args:
            file_id: Of the file.
            param: Field of the request that names it.
            tenant: Whose it has to be; None for anybody's.

        Raises:
            NotStored: There is none, or its time has run out.
        """
        found = await self._redis.get(keys.file(file_id))
        record = None if found is None else FileRecord.model_validate_json(found)
        if record is None or tenant not in (None, record.tenant) or _has_expired(record, time.time()):
            raise NotStored(f"no file {file_id[:80]!r} is here; it may have expired", param=param)
        return record

    async def listed(
        self,
        *,
        after: str | None,
        limit: int,
        newest_first: bool = True,
        purpose: str | None = None,
        tenant: str | None = None,
    ) -> list[FileRecord]:
        """Some files in the order of their creation.

        Args:
            after: The file before the first one wanted.
            limit: How many at most.
            newest_first: The order.
            purpose: Of files that are wanted; None for any.
            tenant: Whose; None for anybody's.

        Raises:
            NotStored: `after` is not there.
        """
        wanted: list[FileRecord] = []
        now = time.time()
        while len(wanted) < limit:
            index = keys.owned(keys.FILES, tenant)
            ids = await page(self._redis, index, after=after, limit=_PAGE, newest_first=newest_first)
            if not ids:
                break
            wanted += [
                record
                for record in await self._records(ids)
                if purpose in (None, record.purpose) and not _has_expired(record, now)
            ]
            after = ids[-1]
        return wanted[:limit]

    async def remove(self, record: FileRecord, store: Store) -> None:
        """Remove a file: its bytes first, so that a crash in between leaves a record to do it again by."""
        await asyncio.to_thread(store.remove, _place(record))
        counters = [keys.file(record.id)] if record.job is None else [keys.file(record.id), keys.job(record.job)]
        async with self._redis.pipeline(transaction=True) as pipe:
            try:
                await pipe.watch(*counters)
                present = [bool(await pipe.exists(key)) for key in counters]
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.delete(keys.file(record.id))
                for index in _indexes(record):
                    pipe.zrem(index, record.id)
                # An output is part of its job's bytes, and has gone with it if the job has.
                if all(present):
                    pipe.decrby(keys.STORED_BYTES, record.bytes)
                    if record.job is not None:
                        pipe.hincrby(keys.job(record.job), "stored_bytes", -record.bytes)
                await pipe.execute()
            except WatchError:
                return  # somebody else has removed it or its job; what is left is for the next cleaning

    async def remove_expired(self, store: Store, now: float) -> None:
        """Remove the files whose time has run out by a Unix time."""
        after: str | None = None
        expired: list[FileRecord] = []
        while ids := await page(self._redis, keys.FILES, after=after, limit=_PAGE, newest_first=False):
            expired += [record for record in await self._records(ids) if _has_expired(record, now)]
            after = ids[-1]
        for record in expired:
            await self.remove(record, store)

    async def _records(self, ids: Sequence[str]) -> list[FileRecord]:
        found = cast("list[bytes | None]", await self._redis.mget([keys.file(file_id) for file_id in ids]))
        return [FileRecord.model_validate_json(record) for record in found if record is not None]


async def finish_files(job: Job, table: JobTable, files: FileTable) -> tuple[str | None, str | None]:
    """Make the files of a batch that has ended; when it is done again, they are the same ones.

    Returns:
        Ids of the output file and of the error file; None for one that would be empty.
    """
    sizes = await table.sizes(job.id)
    outputs, errors = sum(output for output, _ in sizes), sum(error for _, error in sizes)
    return (
        await _finish(job, files, outputs, is_errors=False) if outputs else None,
        await _finish(job, files, errors, is_errors=True) if errors else None,
    )


async def _finish(job: Job, files: FileTable, size: int, *, is_errors: bool) -> str:
    name = "error" if is_errors else "output"
    now = time.time()
    own = job.id.removeprefix("batch_")
    record = FileRecord(
        id=f"file-{name}-{own}",
        filename=f"{job.id}_{name}.jsonl",
        purpose=BATCH_OUTPUT,
        bytes=size,
        created_at=now,
        expires_at=now + (job.spec.output_ttl_s or job.spec.results_ttl_s),
        job=job.id,
        is_errors=is_errors,
        tenant=job.spec.tenant,
    )
    await files.add(record)
    return record.id


async def parts(record: FileRecord, table: JobTable) -> list[FilePart]:
    """The pieces that a file's bytes are in, in order.

    Raises:
        NotStored: The job that they are of is gone.
    """
    if record.job is None:
        return [FilePart(path=_place(record), size=record.bytes)]
    await table.get(record.job)
    path_of = errors_path if record.is_errors else output_path
    sizes = [size[record.is_errors] for size in await table.sizes(record.job)]
    return [FilePart(path=path_of(record.job, number), size=size) for number, size in enumerate(sizes) if size]


def content(pieces: Sequence[FilePart], store: Store) -> Iterator[bytes]:
    """A file's bytes, a block at a time."""
    for piece in pieces:
        yield from store.blocks(piece.path)


def _indexes(record: FileRecord) -> set[str]:
    """Where a file is listed."""
    return {keys.owned(keys.FILES, tenant) for tenant in (None, record.tenant)}


def _has_expired(record: FileRecord, now: float) -> bool:
    return record.expires_at is not None and now > record.expires_at


def _place(record: FileRecord) -> str:
    """What its bytes lie in: a file, or a folder of a job."""
    if record.job is None:
        return record.path or upload_path(record.id)
    path_of = errors_path if record.is_errors else output_path
    return str(PurePosixPath(path_of(record.job, 0)).parents[1])
