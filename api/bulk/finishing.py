"""How jobs end: completed, cancelled, expired or failed, with the files of a batch and the room that a job took."""

import asyncio
import time
from contextlib import suppress

from api.bulk import batch_lines
from api.bulk.files import FileTable, finish_files
from shared.bulk.jobs import FINAL_STATES, Job, Kind, State
from shared.bulk.store import Store, errors_path, input_path, job_folder
from shared.bulk.table import JobTable
from shared.errors import NotStored, StorageFull
from shared.logging import get_logger

log = get_logger("millrace.jobs")

#: States that a job can leave by ending.
_RUNNING = tuple(state for state in State if state not in FINAL_STATES)
#: What a batch's lines are told that never ran.
_NEVER_RAN: dict[State, batch_lines.NeverRun] = {
    State.CANCELLED: "batch_cancelled",
    State.EXPIRED: "batch_expired",
    State.FAILED: "batch_failed",
}


class Finishing:
    """Ends jobs. Every step may be taken twice: by a second runner, or again after a crash."""

    def __init__(self, table: JobTable, files: FileTable, store: Store) -> None:
        self._table = table
        self._files = files
        self._store = store

    async def end(self, job: Job, state: State) -> None:
        """Bring a job into a final state.

        Args:
            job: As it stands; nothing of it is being run.
            state: The final state.
        """
        fields: dict[str, object] = {}
        if job.spec.kind is Kind.BATCH:
            if state is State.COMPLETED:
                await self._table.enter(job.id, State.FINALIZING, since=[State.IN_PROGRESS])
            else:
                await self._tell_the_rest(job, _NEVER_RAN[state])
            output, error = await finish_files(await self._table.get(job.id), self._table, self._files)
            fields = {"output_file_id": output or "", "error_file_id": error or ""}
        if await self._table.enter(job.id, state, since=_RUNNING, **fields):
            log.info("job_ended", job=job.id, state=str(state), completed=job.completed, failed=job.failed)
        await self._table.deactivate(job.id)

    async def _tell_the_rest(self, job: Job, code: batch_lines.NeverRun) -> None:
        """An error line for each line of a batch that was not run."""
        segments = await self._table.segments(job.id)
        for number in range(len(segments)):
            if await self._table.is_done(job.id, number):
                continue
            path = input_path(job.id, number, segments[number].writer)
            try:
                data = await asyncio.to_thread(self._store.read, path)
            except NotStored:
                continue  # another runner was here a moment ago
            lines = list(batch_lines.render_never_run(data, code))
            errors = b"".join(lines)
            try:
                await asyncio.to_thread(self._store.write, errors_path(job.id, number), errors)
            except StorageFull:
                return  # which is why it failed: the rest can only be counted
            await self._table.complete(
                job.id,
                number,
                completed=0,
                failed=len(lines),
                tokens=0,
                input_bytes=len(data),
                result_bytes=0,
                error_bytes=len(errors),
            )

    async def clean(self) -> None:
        """Delete jobs whose results, and files whose own time has run out."""
        now = time.time()
        async for job in self._table.created_before(now):
            ended_at = job.entered_at.get(str(job.state), now)
            if job.state.is_final and now > ended_at + job.spec.results_ttl_s:
                await self.remove(job)
        await self._files.remove_expired(self._store, now)

    async def remove(self, job: Job) -> None:
        """Delete a job with all that is stored of it."""
        for file_id in filter(None, (job.output_file_id, job.error_file_id)):
            with suppress(NotStored):  # its own time has run out, or somebody has deleted it
                await self._files.remove(await self._files.get(file_id), self._store)
        # The files first, so that a crash in between leaves a job to do it again by.
        await asyncio.to_thread(self._store.remove, job_folder(job.id))
        await self._table.delete(job)
        log.info("job_removed", job=job.id)
