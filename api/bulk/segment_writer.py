"""Lines of an upload to segments: each is written to the store, then registered as the job's next."""

import asyncio
import secrets
import string
import time
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from api.settings import ApiSettings
from shared.bulk.jobs import Job
from shared.bulk.store import Store, input_path
from shared.bulk.table import JobTable, Segment
from shared.errors import Conflict, NotStored, StorageFull

#: A segment that has been begun so long ago is written however small it is, so that a slow upload has results too.
OLDEST_S = 2.0
#: Documents of a job's first segments; later ones have up to a quarter of those before them.
_LEAST_DOCUMENTS = 32


class SegmentWriter:
    """The segments of one upload. One is written while the next is gathered; a third has to wait."""

    def __init__(self, job: Job, table: JobTable, store: Store, settings: ApiSettings) -> None:
        """Begin behind what the job has.

        Args:
            job: As it stands.
            table: Where segments are registered.
            store: Where their lines go.
            settings: How long segments are, and the store's quota.
        """
        self._job_id = job.id
        self._table = table
        self._store = store
        self._settings = settings
        self._number = job.segments
        self._first = job.received
        self._checksum = job.checksum
        self._writer = "".join(secrets.choice(string.ascii_lowercase) for _ in range(8))
        self._lines: list[bytes] = []
        self._bytes = 0
        self._begun_at = 0.0
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.cut()
            await self._written()
        elif self._writing is not None:
            # What was gathered is given up, and sent again by who continues the upload.
            await asyncio.gather(self._writing, return_exceptions=True)

    async def add(self, lines: Sequence[bytes]) -> None:
        """Take lines; waits while there is more to be written than may be under way.

        Raises:
            StorageFull: The store has no room, or its quota is used up.
            StorageUnavailable: It cannot be written.
            Conflict: The job takes no more documents, or another upload has continued it.
            NotStored: The job is gone.
        """
        for line in lines:
            if self._lines and self._bytes + len(line) > self._settings.job_segment_bytes:
                await self.cut()
            if not self._lines:
                self._begun_at = time.monotonic()
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) >= self._most_documents():
                await self.cut()
        if self._lines and time.monotonic() - self._begun_at >= OLDEST_S:
            await self.cut()

    def _most_documents(self) -> int:
        """Documents of the segment that is being gathered: few at first, so that a short job has results soon."""
        return min(self._settings.job_segment_documents, max(_LEAST_DOCUMENTS, self._first // 4))

    async def cut(self) -> None:
        """End the segment that is being gathered; raises what `add` does."""
        await self._written()
        if not self._lines:
            return
        segment = Segment(self._number, self._first, self._first + len(self._lines), self._writer)
        data = b"".join(self._lines)
        self._checksum = zlib.crc32(data, self._checksum)
        self._writing = asyncio.create_task(self._write(segment, data, self._checksum))
        self._number, self._first = segment.number + 1, segment.end
        self._lines, self._bytes = [], 0

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _write(self, segment: Segment, data: bytes, checksum: int) -> None:
        quota_bytes = self._settings.store_limit_bytes
        path = input_path(self._job_id, segment.number, segment.writer)
        await asyncio.to_thread(self._store.write, path, data)
        try:
            await self._table.append(self._job_id, segment, len(data), checksum=checksum, quota_bytes=quota_bytes)
        except (Conflict, NotStored, StorageFull):
            if not await self._is_registered(segment):
                await asyncio.to_thread(self._store.remove, path)
                raise

    async def _is_registered(self, segment: Segment) -> bool:
        """Whether it was registered though that was refused: the command is sent twice when its answer is lost."""
        job = await self._table.find(self._job_id)
        if job is None or job.segments <= segment.number:
            return False
        return await self._table.segment(self._job_id, segment.number) == segment
