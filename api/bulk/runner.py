"""The job runner: gives segments of bulk jobs to the model workers, and sees every job to its end.

Any number of runners share the jobs: a segment is claimed by one at a time, and is another's when that one has been silent
for `CLAIM_TTL_S`. How much is under way follows the workers: about twice what their queues are given, so that they never
wait, and a job of any length takes the memory of some segments. Jobs of one priority take turns segment by segment.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from api.bulk.finishing import Finishing
from api.bulk.progress import stalled_s
from api.bulk.segment_runs import JobCannotRun, Outcome, SegmentRuns
from api.bulk.spent_inputs import SpentInputs
from api.bulk.validation import validate
from api.core import Core
from api.settings import ApiSettings
from shared.bulk.jobs import Job, JobError, Kind, State
from shared.bulk.store import Store, errors_path, input_path, output_path
from shared.bulk.table import CLAIM_RENEW_S, JobTable, Segment
from shared.errors import Conflict, MillraceError, NotStored, StorageFull
from shared.jobs import CHARACTERS_PER_TOKEN
from shared.logging import get_logger
from shared.metrics import Metrics

log = get_logger("millrace.jobs")

#: How often the jobs are looked at, in seconds; a finished segment is another reason to look.
POLL_S = 0.25
#: How often expired jobs and files are looked for, in seconds.
CLEAN_EVERY_S = 15.0
#: Pause after the store or Redis could not be used, in seconds.
_RETRY_S = 1.0


@dataclass(slots=True)
class _Running:
    """What this runner does for a job."""

    segments: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    validation: asyncio.Task[None] | None = None


class Runner:
    """Runs the jobs that are active."""

    def __init__(
        self,
        core: Core,
        table: JobTable,
        store: Store,
        runs: SegmentRuns,
        finishing: Finishing,
        metrics: Metrics,
        settings: ApiSettings,
    ) -> None:
        self._core = core
        self._table = table
        self._store = store
        self._spent = SpentInputs(store)
        self._runs = runs
        self._finishing = finishing
        self._metrics = metrics
        self._settings = settings
        self._running: dict[str, _Running] = defaultdict(_Running)
        #: Tokens under way by model, roughly.
        self._tokens: dict[str, int] = defaultdict(int)
        #: When each job was last given a turn: the one that has waited longest is next.
        self._served: dict[str, int] = {}
        self._turn = 0
        self._wake = asyncio.Event()
        self._draining = False
        segments = metrics.gauge("millrace_running_segments")
        segments.set_function(lambda: sum(len(running.segments) for running in self._running.values()))

    async def run(self) -> None:
        """Run jobs until cancelled."""
        while True:
            try:
                await self._look()
            except (RedisError, OSError) as err:
                log.warning("jobs_unreachable", error=str(err))
                await asyncio.sleep(_RETRY_S)
            except MillraceError as err:
                log.warning("jobs_delayed", reason=err.message)
                await asyncio.sleep(_RETRY_S)
            await self._sleep()

    async def renew(self) -> None:
        """Keep the claims of what is under way, until cancelled."""
        while True:
            await asyncio.sleep(CLAIM_RENEW_S)
            try:
                for job_id, running in list(self._running.items()):
                    if running.segments:
                        await self._table.renew(job_id, list(running.segments))
            except (RedisError, OSError) as err:
                log.warning("claims_not_renewed", error=str(err))

    async def clean(self) -> None:
        """Delete what has expired, until cancelled."""
        while True:
            try:
                await self._finishing.clean()
                await asyncio.to_thread(self._spent.remove)
            except (RedisError, OSError, MillraceError) as err:
                log.warning("not_cleaned", error=str(err))
            await asyncio.sleep(CLEAN_EVERY_S)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more; finish what is under way within the time, and give back the rest."""
        self._draining = True
        tasks = [task for running in self._running.values() for task in running.segments.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for job_id in list(self._running):
            await self._stop(job_id)
        await asyncio.to_thread(self._spent.remove, early=True)

    async def _sleep(self) -> None:
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), POLL_S)
        except TimeoutError:
            return

    async def _look(self) -> None:
        """Move every job on by what can be done for it now."""
        jobs = [job for job_id in await self._table.active() if (job := await self._going_on(job_id)) is not None]
        self._metrics.gauge("millrace_active_jobs").set(len(jobs))
        self._metrics.gauge("millrace_stalled_job_seconds").set(stalled_s(jobs, time.time()))
        if not self._draining:
            await self._feed([job for job in jobs if job.state.runs])

    async def _going_on(self, job_id: str) -> Job | None:
        """A job that has not ended; None for any other, once what is left to do for it is done."""
        try:
            job = await self._table.find(job_id)
            if job is not None:
                return None if await self._ended(job) else job
            await self._stop(job_id)
            await self._table.deactivate(job_id)
        except (MillraceError, RedisError, OSError):
            raise
        except Exception:
            # A record that cannot be read must not keep all other jobs from running.
            log.exception("job_not_understood", job=job_id)
        return None

    async def _ended(self, job: Job) -> bool:
        """End a job whose end has come."""
        now = time.time()
        if job.state.is_final:
            await self._stop(job.id)
            await self._table.deactivate(job.id)
            return True
        if job.state is State.CANCELLING or job.failing or now > job.spec.expires_at:
            await self._stop(job.id)
            if not await self._table.is_being_run(job.id):  # by another runner, which stops too
                state = State.FAILED if job.failing else State.EXPIRED
                await self._finishing.end(job, State.CANCELLED if job.state is State.CANCELLING else state)
            return True
        if job.input_complete and job.segments_done == job.segments:
            await self._finishing.end(job, State.COMPLETED)
            return True
        if job.state is State.RECEIVING:
            heard_at = max(job.appended_at, job.entered_at.get(str(job.state), now))
            if now > heard_at + self._settings.job_upload_idle_s:
                message = f"the upload ended after {job.received} documents and was not continued"
                await self._fail(job, JobError(code="upload_incomplete", message=message))
        if job.state is State.VALIDATING and not self._draining:
            running = self._running[job.id]
            if running.validation is None:
                running.validation = asyncio.create_task(self._validate(job, running))
        return False

    async def _validate(self, job: Job, running: _Running) -> None:
        try:
            await validate(job, self._table, self._store, self._settings)
        except Conflict:
            log.info("validated_elsewhere", job=job.id)
        except (MillraceError, RedisError, OSError) as err:
            log.warning("validation_delayed", job=job.id, error=str(err))
            await asyncio.sleep(_RETRY_S)
        finally:
            running.validation = None
            self._wake.set()

    async def _feed(self, jobs: Iterable[Job]) -> None:
        """Claim segments, in turns, as long as the workers can use more."""
        hungry = {job.id: job for job in jobs}
        while hungry:
            job = min(hungry.values(), key=lambda one: (-one.spec.priority, self._served.get(one.id, 0)))
            model = job.spec.model or ""
            if self._tokens[model] >= self._wanted_tokens(model):
                del hungry[job.id]
                continue
            running = self._running[job.id]
            segment = await self._table.claim(job.id)
            if segment is None or segment.number in running.segments:
                del hungry[job.id]
                continue
            self._turn += 1
            self._served[job.id] = self._turn
            tokens = len(segment) * max(1, job.received_bytes // max(1, job.received) // CHARACTERS_PER_TOKEN)
            self._tokens[model] += tokens
            task = asyncio.create_task(self._run_segment(job, running, segment, model, tokens))
            running.segments[segment.number] = task

    def _wanted_tokens(self, model: str) -> int:
        """Tokens that should be under way: twice what the dispatcher gives the model's queue, which it holds ready."""
        batch_tokens = self._core.fleet.batch_tokens(model)
        workers = max(1, self._core.fleet.workers_of(model) if model else len(self._core.fleet.workers))
        return 2 * max(1, self._settings.tasks_in_flight_per_worker) * workers * batch_tokens

    async def _run_segment(self, job: Job, running: _Running, segment: Segment, model: str, tokens: int) -> None:
        try:
            await self._carry_through(job, segment)
        except JobCannotRun as err:
            await self._fail(job, JobError(code=err.error.code, message=err.error.message))
        except StorageFull as err:
            await self._fail(job, JobError.of(err))
        except NotStored as err:
            if not await self._table.is_done(job.id, segment.number):
                await self._fail(job, JobError(code="input_lost", message=err.message))
        except (MillraceError, RedisError, OSError) as err:
            log.warning("segment_given_back", job=job.id, segment=segment.number, error=str(err))
            await asyncio.sleep(_RETRY_S)
        except Exception:
            log.exception("segment_crashed", job=job.id, segment=segment.number)
            await asyncio.sleep(_RETRY_S)
        finally:
            self._tokens[model] -= tokens
            del running.segments[segment.number]
            self._wake.set()

    async def _carry_through(self, job: Job, segment: Segment) -> None:
        """Input from the store, through the workers, results into the store, and only then counted."""
        path = input_path(job.id, segment.number, segment.writer)
        data = await asyncio.to_thread(self._store.read, path)
        outcome = await self._runs.run(job.spec, segment, data)
        growth = len(outcome.results) + len(outcome.errors) - len(data)
        await self._table.make_sure_of_room(growth, quota_bytes=self._settings.store_limit_bytes)
        await asyncio.to_thread(self._write, job, segment, outcome)
        counted = await self._table.complete(
            job.id,
            segment.number,
            completed=outcome.completed,
            failed=outcome.failed,
            tokens=outcome.tokens,
            input_bytes=len(data),
            result_bytes=len(outcome.results),
            error_bytes=len(outcome.errors),
        )
        if counted:
            labels = {"kind": str(job.spec.kind)}
            self._metrics.counter("millrace_job_documents_total", **labels, outcome="completed").inc(outcome.completed)
            self._metrics.counter("millrace_job_documents_total", **labels, outcome="failed").inc(outcome.failed)
        self._spent.add(path)

    def _write(self, job: Job, segment: Segment, outcome: Outcome) -> None:
        if outcome.results or job.spec.kind is Kind.INGEST:
            self._store.write(output_path(job.id, segment.number), outcome.results)
        if outcome.errors:
            self._store.write(errors_path(job.id, segment.number), outcome.errors)

    async def _fail(self, job: Job, error: JobError) -> None:
        """Have a job end as failed, once nothing of it is under way any more."""
        log.warning("job_failing", job=job.id, code=error.code, reason=error.message)
        await self._table.set(job.id, failing=True, errors=[error])

    async def _stop(self, job_id: str) -> None:
        """Give up what this runner does for a job, and give its segments back."""
        running = self._running.pop(job_id, None)
        if running is None:
            return
        numbers = list(running.segments)
        tasks = [task for task in (*running.segments.values(), running.validation) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._served.pop(job_id, None)
        await self._table.release(job_id, numbers)
