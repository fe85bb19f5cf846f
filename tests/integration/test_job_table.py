"""The job table on a real server: what is counted is counted once, and a dead runner's segments are another's."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from shared import keys
from shared.bulk import table as tables
from shared.bulk.jobs import Job, JobError, JobSpec, Kind, State
from shared.bulk.table import JobTable, Segment
from shared.errors import Conflict, NotStored, StorageFull


def _spec(job_id: str = "job_1", **fields: object) -> JobSpec:
    now = time.time()
    given: dict[str, object] = {"created_at": now, "expires_at": now + 60, "results_ttl_s": 60.0} | fields
    return JobSpec.model_validate({"id": job_id, "kind": Kind.INGEST, **given})


@pytest.fixture
def on_table(redis_url: str) -> Callable[[Callable[[JobTable, Redis], Awaitable[None]]], None]:
    """Runs a test's coroutine with a table."""

    def run(test: Callable[[JobTable, Redis], Awaitable[None]]) -> None:
        async def with_table() -> None:
            async with Redis.from_url(redis_url) as redis:
                await redis.flushall()
                await test(JobTable(redis), redis)

        asyncio.run(with_table())

    return run


async def _job_of(table: JobTable, *sizes: int, state: State = State.RECEIVING) -> Job:
    """A job with segments of so many documents, of 100 bytes each."""
    await table.create(_spec(), state)
    first = 0
    for number, size in enumerate(sizes):
        added = await table.append(
            "job_1", Segment(number, first, first + size, "abcdefgh"), 100 * size, checksum=0, quota_bytes=0
        )
        assert added == number
        first += size
    return await table.get("job_1")


async def _complete(table: JobTable, number: int, completed: int, failed: int = 0) -> bool:
    return await table.complete(
        "job_1",
        number,
        completed=completed,
        failed=failed,
        tokens=7 * completed,
        input_bytes=100,
        result_bytes=1000,
        error_bytes=10,
    )


def test_what_arrives_is_counted_and_found_by_its_index(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        job = await _job_of(table, 512, 3, 512)
        assert (job.received, job.received_bytes, job.segments) == (1027, 102_700, 3)
        assert int(await redis.get(keys.STORED_BYTES) or 0) == 102_700
        segments = await table.segments("job_1")
        assert [(segment.first, segment.end) for segment in segments] == [(0, 512), (512, 515), (515, 1027)]
        assert [segments.holding(index) for index in (0, 511, 512, 514, 515, 1026, 1027)] == [0, 0, 1, 1, 2, 2, 3]
        assert await table.segment("job_1", 1) == Segment(1, 512, 515, "abcdefgh")

    on_table(test)


def test_documents_sent_again_are_refused_with_the_place_to_go_on(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 512)
        with pytest.raises(Conflict, match="the next is 512, not 0"):
            await table.append("job_1", Segment(1, 0, 10, "abcdefgh"), 1, checksum=0, quota_bytes=0)
        assert await table.enter("job_1", State.IN_PROGRESS, since=[State.RECEIVING], input_complete=True)
        with pytest.raises(Conflict, match="in_progress"):
            await table.append("job_1", Segment(1, 512, 513, "abcdefgh"), 1, checksum=0, quota_bytes=0)
        with pytest.raises(NotStored):
            await table.append("job_2", Segment(0, 0, 1, "abcdefgh"), 1, checksum=0, quota_bytes=0)

    on_table(test)


def test_the_quota_counts_all_jobs(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 5)
        await table.create(_spec("job_2"), State.RECEIVING)
        with pytest.raises(StorageFull, match="1,000 bytes"):
            await table.append("job_2", Segment(0, 0, 5, "abcdefgh"), 501, checksum=0, quota_bytes=1000)
        await table.delete(await table.get("job_1"))
        assert await table.append("job_2", Segment(0, 0, 5, "abcdefgh"), 501, checksum=0, quota_bytes=1000) == 0

    on_table(test)


def test_each_segment_has_one_runner_until_that_one_is_silent(on_table, monkeypatch) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 2, 2, 2)
        monkeypatch.setattr(tables, "CLAIM_TTL_S", 0.3)
        claimed = [await table.claim("job_1") for _ in range(4)]
        assert [segment and segment.number for segment in claimed] == [0, 1, 2, None]
        for _ in range(4):
            await asyncio.sleep(0.15)
            await table.renew("job_1", [0, 1])
        again = await table.claim("job_1")
        assert again is not None
        assert again.number == 2
        await table.release("job_1", [1])
        returned = await table.claim("job_1")
        assert returned is not None
        assert returned.number == 1

    on_table(test)


def test_a_segment_that_two_runners_finish_counts_once(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 10, 10)
        first = await table.claim("job_1")
        assert first is not None
        assert await _complete(table, 0, 9, 1)
        assert not await _complete(table, 0, 9, 1)
        job = await table.get("job_1")
        assert (job.completed, job.failed, job.segments_done, job.tokens) == (9, 1, 1, 63)
        # Its input is not needed any more: 2,000 bytes received, 100 of them given back, 1,010 of results.
        assert job.stored_bytes == 2000 - 100 + 1010
        assert job.rate > 0
        assert (await table.sizes("job_1"))[0] == (1000, 10)

    on_table(test)


def test_the_rate_is_right_from_the_first_segments_on(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 10, 1000, 1000)
        rates = []
        for number, count in enumerate((10, 1000, 1000)):
            # Each takes a second.
            await redis.hincrbyfloat(keys.job("job_1"), "rated_at", -1)
            await _complete(table, number, count)
            rates.append((await table.get("job_1")).rate)
        assert rates == pytest.approx([10, 520, 690], rel=0.1)

    on_table(test)


def test_results_can_be_read_up_to_the_first_gap(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 1, 1, 1)
        await _complete(table, 2, 1)
        assert await table.done_before(await table.get("job_1")) == 0
        await _complete(table, 0, 1)
        assert await table.done_before(await table.get("job_1")) == 1
        await _complete(table, 1, 1)
        assert await table.done_before(await table.get("job_1")) == 3

    on_table(test)


def test_no_more_can_be_read_than_the_job_as_read_counts(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 1, 1)
        job = await table.get("job_1")
        await _complete(table, 0, 1)
        assert await table.done_before(job) == 0
        assert await table.done_before(await table.get("job_1")) == 1

    on_table(test)


def test_a_job_moves_only_from_the_states_that_are_named(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 1)
        assert not await table.enter("job_1", State.COMPLETED, since=[State.IN_PROGRESS])
        assert await table.enter("job_1", State.CANCELLING, since=[State.RECEIVING])
        assert await table.claim("job_1") is None
        job = await table.get("job_1")
        assert job.state is State.CANCELLING
        assert set(job.entered_at) == {"receiving", "cancelling"}
        assert not await table.enter("job_2", State.CANCELLED, since=list(State))

    on_table(test)


def test_a_job_that_is_failing_gives_out_nothing_more(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 1)
        error = JobError(code="storage_full", message="The disk is full.")
        await table.set("job_1", failing=True, errors=[error])
        assert await table.claim("job_1") is None
        job = await table.get("job_1")
        assert job.failing
        assert job.errors == [error]

    on_table(test)


def test_jobs_are_listed_newest_first_in_pages(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        for number in range(5):
            kind = Kind.BATCH if number % 2 else Kind.INGEST
            await table.create(_spec(f"job_{number}", kind=kind, created_at=1000.0 + number), State.RECEIVING)
        page = await table.listed(keys.JOBS, after=None, limit=2)
        assert [job.id for job in page] == ["job_4", "job_3"]
        page = await table.listed(keys.JOBS, after="job_3", limit=9)
        assert [job.id for job in page] == ["job_2", "job_1", "job_0"]
        assert [job.id for job in await table.listed(keys.BATCHES, after=None, limit=9)] == ["job_3", "job_1"]
        with pytest.raises(NotStored, match="job_9"):
            await table.listed(keys.JOBS, after="job_9", limit=1)

    on_table(test)


def test_a_deleted_job_leaves_nothing(on_table) -> None:
    async def test(table: JobTable, redis: Redis) -> None:
        await _job_of(table, 4)
        await table.claim("job_1")
        await _complete(table, 0, 4)
        await table.delete(await table.get("job_1"))
        assert [key for key in await redis.keys("*") if key != keys.STORED_BYTES.encode()] == []
        assert int(await redis.get(keys.STORED_BYTES) or 0) == 0
        # A runner that was slow does not bring it back.
        assert not await _complete(table, 0, 4)
        await table.set("job_1", failing=True)
        assert await table.find("job_1") is None

    on_table(test)
