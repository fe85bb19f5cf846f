"""How documents come into a job: read, stored and registered piece by piece, so that a broken upload can be continued."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from api.bulk.segment_writer import OLDEST_S, SegmentWriter
from api.bulk.uploads import Upload, with_pauses
from api.settings import ApiSettings
from shared.bulk.jobs import Job, JobError, Kind, State
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.errors import Conflict, IdempotencyKeyReused, MillraceError, StorageFull
from shared.logging import get_logger

log = get_logger("millrace.bulk")


@dataclass(slots=True)
class _Place:
    """Where in the job's documents an upload is."""

    #: Index of the next document of the upload.
    next: int
    #: Documents that the job had when the upload began: the upload's own before that are known already.
    received: int

    def split(self, lines: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Those of the next lines that the job has, and those that it does not have."""
        known = max(0, self.received - self.next)
        self.next += len(lines)
        return lines[:known], lines[known:]


class _Repetition:
    """The documents that a job has, while they are sent again: are they the same?"""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._documents = self._bytes = self._checksum = 0

    def note(self, lines: Sequence[bytes]) -> None:
        """Compare with what the job has, as soon as it has no more.

        Raises:
            IdempotencyKeyReused: It has others.
        """
        data = b"".join(lines)
        self._documents += len(lines)
        self._bytes += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        if lines and self._documents == self._job.received:
            self.end()

    def end(self) -> None:
        """Nothing more is sent again.

        Raises:
            IdempotencyKeyReused: The job has more, or other documents.
        """
        job = self._job
        if (self._documents, self._bytes, self._checksum) != (job.received, job.received_bytes, job.checksum):
            raise IdempotencyKeyReused(
                f"the job {job.id} of this Idempotency-Key has {job.received} documents, and they are not those that are "
                "sent now; take a new key for new documents"
            )


class Intake:
    """Puts documents into jobs."""

    def __init__(self, table: JobTable, store: Store, settings: ApiSettings) -> None:
        self._table = table
        self._store = store
        self._settings = settings

    async def receive(
        self, job: Job, upload: Upload, *, offset: int | None, more: bool, is_repetition: bool = False
    ) -> Job:
        """Take the documents of a body.

        Args:
            job: As it stands.
            upload: The body.
            offset: Index in the job of the body's first document; None to go on behind what is there. Documents that the
                job has already are skipped.
            more: Whether more documents come in another body.
            is_repetition: Whether the body, from document 0 on, must begin with the documents that the job has.

        Returns:
            The job afterwards.

        Raises:
            Conflict: The job takes no more documents, or the body does not go on where the job's documents end.
            StorageFull: There is no room; the job has failed.
            StorageUnavailable: The store cannot be used; the upload can be continued.
            InvalidRequest: The body is broken.
            ClientDisconnect: The sender has gone; the upload can be continued.
            IdempotencyKeyReused: A repetition has other documents; the job stays as it is.
        """
        if job.spec.kind is not Kind.INGEST:
            raise Conflict(f"{job.id} is a batch: its lines are in its file")
        place = _Place(job.received if offset is None else offset, job.received)
        if place.next > job.received:
            raise Conflict(f"the job has {job.received} documents, so the next is {job.received}, not {offset}")
        # A last body that is sent again, because its answer was lost, is read to its end and found to be known.
        if job.state is not State.RECEIVING and not (job.input_complete and offset is not None):
            raise Conflict(f"the job is {job.state} and takes no more documents")
        try:
            await self._store_all(job, upload, place, _Repetition(job) if is_repetition else None)
        except StorageFull as err:
            await self.fail(job.id, err)
            raise
        if not more and not job.input_complete:
            if place.next < job.received:
                raise Conflict(f"the body ends with document {place.next}, but the job has {job.received} already")
            await self._table.enter(job.id, State.IN_PROGRESS, since=[State.RECEIVING], input_complete=True)
        return await self._table.get(job.id)

    async def fail(self, job_id: str, error: MillraceError) -> None:
        """End an unfinished upload's job because of an error."""
        log.warning("upload_failed", job=job_id, code=error.code, reason=error.message)
        errors = [JobError.of(error)]
        await self._table.enter(job_id, State.FAILED, since=[State.RECEIVING], errors=errors)

    async def _store_all(self, job: Job, upload: Upload, place: _Place, repetition: _Repetition | None) -> None:
        batches = upload.batches(self._settings.job_document_bytes)
        async with SegmentWriter(job, self._table, self._store, self._settings) as writer:
            async for lines in with_pauses(batches, OLDEST_S):
                known, unknown = place.split(lines)
                if repetition is not None:
                    repetition.note(known)
                if unknown and job.input_complete:
                    raise Conflict(f"the job's input is complete: it has {job.received} documents")
                await writer.add(unknown)
                if not lines:  # nothing has come for so long that what has begun is old enough
                    await writer.cut()
            if repetition is not None:
                repetition.end()
