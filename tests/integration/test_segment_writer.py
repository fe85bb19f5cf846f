"""Segments of an upload, when Redis is asked twice."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from api.bulk.segment_writer import SegmentWriter
from api.settings import ApiSettings
from shared.bulk.jobs import JobSpec, Kind, State
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.errors import Conflict


class AskedTwice(JobTable):
    """A table whose first answer to each registration is lost, so that the client sends it once more."""

    async def append(self, *args: Any, **options: Any) -> int:
        await super().append(*args, **options)
        return await super().append(*args, **options)


async def _job(table: JobTable) -> str:
    now = time.time()
    spec = JobSpec(id="job_1", kind=Kind.INGEST, created_at=now, expires_at=now + 60, results_ttl_s=60)
    await table.create(spec, State.RECEIVING)
    return spec.id


def _lines(count: int) -> list[bytes]:
    return [b"%d\n" % number for number in range(count)]


def test_a_registration_that_is_sent_twice_counts_once(redis_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with Redis.from_url(redis_url) as redis:
            table = AskedTwice(redis)
            job = await table.get(await _job(table))
            async with SegmentWriter(job, table, Store(str(tmp_path)), ApiSettings(job_segment_documents=4)) as writer:
                await writer.add(_lines(10))
            job = await table.get(job.id)
            assert (job.received, job.segments) == (10, 3)

    asyncio.run(run())
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_another_uploads_segment_is_not_taken_for_the_own(redis_url: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with Redis.from_url(redis_url) as redis:
            table, store, settings = JobTable(redis), Store(str(tmp_path)), ApiSettings(job_segment_documents=4)
            job = await table.get(await _job(table))
            async with SegmentWriter(job, table, store, settings) as first:
                await first.add(_lines(4))
            with pytest.raises(Conflict):
                async with SegmentWriter(job, table, store, settings) as second:
                    await second.add(_lines(4))

    asyncio.run(run())
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_segments_end_at_their_bytes_too(redis_url: str, tmp_path: Path) -> None:
    async def run() -> list[int]:
        async with Redis.from_url(redis_url) as redis:
            table = JobTable(redis)
            job = await table.get(await _job(table))
            async with SegmentWriter(job, table, Store(str(tmp_path)), ApiSettings(job_segment_bytes=1024)) as writer:
                await writer.add([b"x" * 300 + b"\n"] * 5 + [b"y" * 3000 + b"\n"] + [b"z\n"])
            segments = await table.segments(job.id)
            return [len(segments[number]) for number in range(len(segments))]

    assert asyncio.run(run()) == [3, 2, 1, 1]
