"""The job table: bulk jobs in Redis. Counters and names; what is large lies in the store.

A job is one hash: its `JobSpec` as JSON in `spec`, its `state`, counters (`received`, `segments`, `next` segment to be
given out, `segments_done`, `completed`, `failed`, `tokens` ...) and `at:<state>` for when it entered each state. Where
segments begin is in a string beside it, and which ones are done in a bitmap: 32 bytes and one bit a segment, some
megabytes for fifty million documents. Each change of several of these is one Lua script, and each is idempotent.
"""

import struct
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import WatchError

from shared import keys, lua
from shared.bulk.jobs import Job, JobError, JobSpec, Kind, State, WebhookEndpoint
from shared.errors import Conflict, NotStored, StorageFull

#: How long a runner may be silent before another takes its segments, in seconds.
CLAIM_TTL_S = 10.0
#: How often it renews its claims, in seconds.
CLAIM_RENEW_S = 2.0

_SEGMENT = struct.Struct(">Q8s")
_SIZES = struct.Struct(">QQ")
_AT = "at:"
_COUNTERS = (
    *(
        "received",
        "received_bytes",
        "checksum",
        "segments",
        "segments_done",
        "completed",
        "failed",
        "tokens",
        "stored_bytes",
    ),
    *("callback_cursor", "callbacks_delivered", "callbacks_dead", "callbacks_pending"),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Some hundred documents of a job that are run together."""

    number: int
    #: Index of its first document in the job, and of the one after its last.
    first: int
    end: int
    #: Upload that wrote it, 8 letters: part of its file's name.
    writer: str

    def __len__(self) -> int:
        return self.end - self.first


class Segments:
    """All segments of a job."""

    def __init__(self, packed: bytes) -> None:
        self._entries = list(_SEGMENT.iter_unpack(packed))
        self._ends = [end for end, _ in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Segment:
        end, writer = self._entries[number]
        return Segment(number, self._ends[number - 1] if number else 0, end, writer.decode())

    def holding(self, index: int) -> int:
        """Number of the segment that holds a document; the number of segments when it lies behind the last."""
        return bisect_right(self._ends, index)


class JobTable:
    """Jobs by id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append, self._claim, self._renew, self._complete, self._enter = (
            redis.register_script(lua.script(f"bulk/{name}"))
            for name in ("append", "claim", "renew", "complete", "enter")
        )

    async def create(self, spec: JobSpec, state: State) -> None:
        """Add a job."""
        now = time.time()
        async with self._redis.pipeline(transaction=True) as pipe:
            fields: dict[Any, Any] = dict.fromkeys([*_COUNTERS, "next", "input_complete"], 0)
            fields |= {"spec": spec.model_dump_json(), "state": str(state), f"{_AT}{state}": now}
            pipe.hset(keys.job(spec.id), mapping=fields)
            for index in _indexes(spec):
                pipe.zadd(index, {spec.id: spec.created_at})
            pipe.zadd(keys.ACTIVE_JOBS, {spec.id: -spec.priority})
            if spec.delivery.has_receiver:
                pipe.sadd(keys.DELIVERING_JOBS, spec.id)
            await pipe.execute()

    async def find(self, job_id: str) -> Job | None:
        """A job as it stands, or None."""
        if ":" in job_id:
            return None  # behind a colon there are a job's other keys
        fields = await self._redis.hgetall(keys.job(job_id))
        return _job(cast("dict[bytes, bytes]", fields)) if b"spec" in fields else None

    async def get(self, job_id: str, *, tenant: str | None = None) -> Job:
        """A job as it stands.

        Args:
            job_id: Of the job.
            tenant: Whose it has to be; None for anybody's.

        Raises:
            NotStored: There is no such job.
        """
        job = await self.find(job_id)
        if job is None or tenant not in (None, job.spec.tenant):
            kind = "batch" if job_id.startswith("batch_") else "job"
            raise NotStored(f"no {kind} {job_id[:80]!r} is here; it may have expired")
        return job

    async def listed(self, index: str, *, after: str | None, limit: int, newest_first: bool = True) -> list[Job]:
        """Some jobs in the order of their creation.

        Args:
            index: `keys.JOBS` or `keys.BATCHES`, or what a tenant has of it (`keys.owned`).
            after: The job before the first one wanted.
            limit: How many at most.
            newest_first: The order.

        Raises:
            NotStored: `after` is not there.
        """
        ids = await page(self._redis, index, after=after, limit=limit, newest_first=newest_first)
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
            return [_job(fields) for fields in await pipe.execute() if b"spec" in fields]

    async def append(self, job_id: str, segment: Segment, size_bytes: int, *, checksum: int, quota_bytes: int) -> int:
        """Register a segment whose lines are in the store, as the job's next.

        Args:
            job_id: Of the job.
            segment: The segment.
            size_bytes: Of its lines.
            checksum: CRC-32 of all the job's lines up to its end.
            quota_bytes: Most bytes in the store; 0 for no limit.

        Returns:
            Its number.

        Raises:
            NotStored: The job is gone.
            Conflict: The job takes no more input, or its input does not end where the segment begins.
            StorageFull: The store would then hold more than the quota.
        """
        entry, documents = _SEGMENT.pack(segment.end, segment.writer.encode()), len(segment)
        verdict, value = await self._append(
            keys=[keys.job(job_id), keys.job_segments(job_id), keys.STORED_BYTES],
            args=[segment.first, documents, size_bytes, entry, quota_bytes, checksum],
        )
        match verdict:
            case b"ok":
                return int(value)
            case b"full":
                raise _over(quota_bytes)
            case b"offset":
                raise Conflict(f"the job has {int(value)} documents, so the next is {int(value)}, not {segment.first}")
            case _ if value == b"gone":
                raise NotStored(f"no job {job_id!r} is here; it may have expired")
        raise Conflict(f"the job is {value.decode()} and takes no more documents")

    async def enter(self, job_id: str, state: State, *, since: Collection[State], **fields: Any) -> bool:
        """Move a job into a state, if it is in one of `since`; set more fields with it.

        Returns:
            Whether it was moved.
        """
        if state.is_final:
            # Before it has ended, so that no end is missed; whoever wants to hear of it is looked for then.
            await self._redis.sadd(keys.DELIVERING_JOBS, job_id)
        extra = [part for name, value in fields.items() for part in (name, _plain(value))]
        allowed = "".join(f"{one}," for one in since)
        return bool(await self._enter(keys=[keys.job(job_id)], args=[str(state), time.time(), allowed, *extra]))

    async def set(self, job_id: str, **fields: Any) -> None:
        """Set fields of a job that is there."""
        if await self._redis.exists(keys.job(job_id)):
            await self._redis.hset(keys.job(job_id), mapping={name: _plain(value) for name, value in fields.items()})

    async def activate(self, spec: JobSpec) -> None:
        """Let runners look at a job again, and send what it has to call back."""
        await self._redis.zadd(keys.ACTIVE_JOBS, {spec.id: -spec.priority})
        await self.deliver(spec)

    async def deliver(self, spec: JobSpec) -> None:
        """Let runners look for callbacks of a job to send, if it has a receiver."""
        if spec.delivery.has_receiver:
            await self._redis.sadd(keys.DELIVERING_JOBS, spec.id)

    async def delivered(self, job_id: str) -> None:
        """Runners have no more callbacks of a job to send."""
        await self._redis.srem(keys.DELIVERING_JOBS, job_id)

    async def delivering(self) -> list[str]:
        """Jobs that may have callbacks to send."""
        return [job_id.decode() for job_id in cast("set[bytes]", await self._redis.smembers(keys.DELIVERING_JOBS))]

    async def deactivate(self, job_id: str) -> None:
        """Runners have nothing more to do for it."""
        await self._redis.zrem(keys.ACTIVE_JOBS, job_id)

    async def active(self) -> list[str]:
        """Jobs that are not finished, the highest priority first."""
        return [job_id.decode() for job_id in cast("list[bytes]", await self._redis.zrange(keys.ACTIVE_JOBS, 0, -1))]

    async def claim(self, job_id: str) -> Segment | None:
        """Take a segment to run it; None when there is none to take now."""
        number = int(
            await self._claim(keys=[keys.job(job_id), keys.job_claims(job_id)], args=[int(CLAIM_TTL_S * 1000)])
        )
        return None if number < 0 else await self.segment(job_id, number)

    async def renew(self, job_id: str, numbers: Collection[int]) -> None:
        """Keep segments that are being run."""
        await self._renew(keys=[keys.job_claims(job_id)], args=[int(CLAIM_TTL_S * 1000), *numbers])

    async def release(self, job_id: str, numbers: Collection[int]) -> None:
        """Give segments back that were not run to their end: the next runner may have them at once."""
        if numbers:
            await self._redis.zadd(keys.job_claims(job_id), dict.fromkeys(map(str, numbers), 0), xx=True)

    async def is_being_run(self, job_id: str) -> bool:
        """Whether some runner holds a segment of the job."""
        seconds, _ = await self._redis.time()
        return bool(await self._redis.zcount(keys.job_claims(job_id), seconds * 1000, "+inf"))

    async def complete(
        self,
        job_id: str,
        number: int,
        *,
        completed: int,
        failed: int,
        tokens: int,
        input_bytes: int,
        result_bytes: int,
        error_bytes: int,
    ) -> bool:
        """Count a segment whose results are in the store. Its input is then the caller's to remove, in a while.

        Returns:
            False if it had been counted before, or the job is gone.
        """
        counted = await self._complete(
            keys=[
                keys.job(job_id),
                keys.job_done(job_id),
                keys.job_claims(job_id),
                keys.job_sizes(job_id),
                keys.STORED_BYTES,
            ],
            args=[
                *(number, completed, failed, tokens, result_bytes + error_bytes - input_bytes),
                _SIZES.pack(result_bytes, error_bytes),
            ],
        )
        return bool(counted == 1)

    async def make_sure_of_room(self, size_bytes: int, *, quota_bytes: int) -> None:
        """See that so many more bytes are within the quota.

        Args:
            size_bytes: Of what is about to be stored.
            quota_bytes: Most bytes in the store; 0 for no limit.

        Raises:
            StorageFull: They are not.
        """
        if quota_bytes and int(await self._redis.get(keys.STORED_BYTES) or 0) + size_bytes > quota_bytes:
            raise _over(quota_bytes)

    async def segment(self, job_id: str, number: int) -> Segment:
        """One segment."""
        size = _SEGMENT.size
        start = max(0, number - 1) * size
        packed = await self._redis.getrange(keys.job_segments(job_id), start, (number + 1) * size - 1)
        *before, (end, writer) = _SEGMENT.iter_unpack(cast("bytes", packed))
        return Segment(number, before[0][0] if before else 0, end, writer.decode())

    async def segments(self, job_id: str) -> Segments:
        """All segments."""
        return Segments(cast("bytes", await self._redis.get(keys.job_segments(job_id)) or b""))

    async def sizes(self, job_id: str) -> list[tuple[int, int]]:
        """Bytes of each segment's results and errors; 0 where it is not done. May be shorter than the segments."""
        packed = cast("bytes", await self._redis.get(keys.job_sizes(job_id)) or b"")
        return list(_SIZES.iter_unpack(packed))

    async def is_done(self, job_id: str, number: int) -> bool:
        """Whether a segment's results are in the store."""
        return bool(await self._redis.getbit(keys.job_done(job_id), number))

    async def done_before(self, job: Job) -> int:
        """Number of segments at the beginning that are all done: their results can be read in order.

        Never more than the job as given counts as done, though some may have been finished since it was read.
        """
        if job.segments_done == job.segments:
            return job.segments
        return min(job.segments_done, int(await self._redis.bitpos(keys.job_done(job.id), 0)))

    async def delete(self, job: Job) -> None:
        """Forget a job with its events and the webhook endpoint that is its own; its files are the caller's to remove."""
        events = cast("list[bytes]", await self._redis.zrange(keys.job_events(job.id), 0, -1))
        endpoint = await self._own_endpoint(job)
        async with self._redis.pipeline(transaction=True) as pipe:
            await pipe.watch(keys.job(job.id))
            if not await pipe.exists(keys.job(job.id)):
                return  # done, by another or by a first attempt whose answer was lost: its bytes count once
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.delete(
                keys.job(job.id),
                *(of(job.id) for of in (keys.job_segments, keys.job_done, keys.job_sizes, keys.job_claims)),
                *(of(job.id) for of in (keys.job_events, keys.job_delivered)),
                *(keys.event(event.decode()) for event in events),
                *endpoint,
            )
            for index in (*_indexes(job.spec), keys.ACTIVE_JOBS):
                pipe.zrem(index, job.id)
            pipe.srem(keys.DELIVERING_JOBS, job.id)
            pipe.decrby(keys.STORED_BYTES, job.stored_bytes)
            with suppress(WatchError):  # the job has changed, or the answer is lost: the next cleaning looks again
                await pipe.execute()

    async def _own_endpoint(self, job: Job) -> list[str]:
        """Key of the webhook endpoint that was made for this job alone, if there is one."""
        key = keys.webhook(job.spec.delivery.endpoint or "")
        found = await self._redis.get(key)
        return [key] if found is not None and WebhookEndpoint.model_validate_json(found).inline else []

    async def created_before(self, moment: float) -> AsyncIterator[Job]:
        """All jobs made before a Unix time, oldest first."""
        for job_id in cast("list[bytes]", await self._redis.zrangebyscore(keys.JOBS, "-inf", moment)):
            job = await self.find(job_id.decode())
            if job is not None:
                yield job


def _indexes(spec: JobSpec) -> list[str]:
    """Where a job is listed."""
    whole = [keys.JOBS, keys.BATCHES] if spec.kind is Kind.BATCH else [keys.JOBS]
    return list(dict.fromkeys(keys.owned(index, tenant) for index in whole for tenant in (None, spec.tenant)))


async def page(redis: Redis, index: str, *, after: str | None, limit: int, newest_first: bool = True) -> list[str]:
    """Some ids of a sorted set of creation times; ids that were made in the same instant keep one order.

    Raises:
        NotStored: `after` is not in it.
    """
    start = 0
    if after is not None:
        rank = await (redis.zrevrank(index, after) if newest_first else redis.zrank(index, after))
        if rank is None:
            raise NotStored(f"nothing called {after[:80]!r} is here to start after", param="after")
        start = cast("int", rank) + 1
    found = cast("list[bytes]", await redis.zrange(index, start, start + limit - 1, desc=newest_first))
    return [entry.decode() for entry in found]


def _job(fields: dict[bytes, bytes]) -> Job:
    named = {name.decode(): value for name, value in fields.items()}
    return Job(
        spec=JobSpec.model_validate_json(named["spec"]),
        state=State(named["state"].decode()),
        input_complete=named.get("input_complete") == b"1",
        failing=named.get("failing") == b"1",
        rate=float(named.get("rate", 0)),
        rated_at=float(named.get("rated_at", 0)),
        appended_at=float(named.get("appended_at", 0)),
        errors=[JobError.model_validate(error) for error in orjson.loads(named.get("errors", b"[]"))],
        entered_at={name[len(_AT) :]: float(value) for name, value in named.items() if name.startswith(_AT)},
        output_file_id=_text(named.get("output_file_id")),
        error_file_id=_text(named.get("error_file_id")),
        callbacks_stopped=named.get("callbacks_stopped", b"").decode(),
        callbacks_final=named.get("callbacks_final", b"").decode(),
        callbacks_announced=named.get("callbacks_announced", b"").decode(),
        **{name: int(named.get(name, 0)) for name in _COUNTERS},
    )


def _over(quota_bytes: int) -> StorageFull:
    return StorageFull(f"the store's quota of {quota_bytes:,} bytes is used up; delete jobs or raise it")


def _text(value: bytes | None) -> str | None:
    return value.decode() if value else None


def _plain(value: Any) -> str | int | float | bytes:
    """A value as Redis keeps it: lists of records as JSON."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return orjson.dumps([entry.model_dump(exclude_none=True) for entry in value])
    return value if isinstance(value, (str, int, float, bytes)) else str(value)
