"""Events on a real server: each is given out once at a time, ends once, and comes back when its worker is silent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from api.bulk import pump as pumping
from api.bulk.pump import CallbackPump
from shared import keys
from shared.addresses import AllowedHosts
from shared.bulk.event_table import EventTable
from shared.bulk.events import Attempt, Event, EventState, EventType, Target, TargetKind
from shared.bulk.jobs import Delivery, Job, Kind, State
from shared.bulk.lanes import webhook_lane
from shared.bulk.settings import WebhookSettings
from shared.bulk.store import Store
from shared.bulk.table import JobTable, Segment
from shared.bulk.webhooks import WebhookRegistry
from shared.queues import CALLBACK_QUEUE
from tests.helpers.bulk_jobs import add_job, run_segment, spec

URL = "https://receiver.example/hook"


class Bench:
    """A job table, its events and a pump on one server, driven step by step."""

    def __init__(self, redis: Redis, folder: Path, **settings: Any) -> None:
        self.redis = redis
        self.table = JobTable(redis)
        self.events = EventTable(redis)
        self.store = Store(str(folder / "store"))
        self.registry = WebhookRegistry(redis, AllowedHosts([]))
        self.pump = CallbackPump(redis, self.table, WebhookSettings(**settings))

    async def job(self, *, segments: int = 2, events: tuple[str, ...] = (), **fields: Any) -> tuple[Job, str]:
        """A job with a webhook endpoint, and the endpoint's id."""
        endpoint = self.registry.new(URL, events=events)
        await self.registry.keep(endpoint)
        await self.redis.set(keys.events_pace(webhook_lane(URL)), "prompt")  # it has answered before
        delivery = Delivery(endpoint=endpoint.id, sink=fields.pop("sink", None))
        state = fields.pop("state", State.COMPLETED)
        job = await add_job(self.table, self.store, spec(delivery=delivery, **fields), segments=segments, state=state)
        return job, endpoint.id

    async def sent(self) -> list[tuple[str, int]]:
        """What the pump has asked the callback workers for since the last time."""
        found = await self.redis.lrange(CALLBACK_QUEUE, 0, -1)
        await self.redis.delete(CALLBACK_QUEUE)
        messages = [orjson.loads(message)["headers"]["argsrepr"] for message in reversed(found)]
        tokens = [int(await self.redis.hget(keys.event(event_id), "lease") or 0) for event_id in messages]
        return list(zip(messages, tokens, strict=True))

    async def begin(self, event_id: str, token: int) -> Event:
        """An event as a worker gets it."""
        event = await self.events.begin(event_id, token, lease_s=60)
        assert event is not None
        return event

    async def deliver_all(self) -> list[str]:
        """Deliver what is due, until nothing is; the events in the order in which they were given out."""
        delivered: list[str] = []
        while True:
            await self.pump.step()
            sent = await self.sent()
            if not sent:
                return delivered
            for event_id, token in sent:
                event = await self.begin(event_id, token)
                await self.events.settle(event, EventState.DELIVERED, Attempt(at=time.time(), status=200))
                delivered.append(event_id)


Test = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def on_bench(redis_url: str, tmp_path: Path) -> Callable[..., None]:
    """Runs a test's coroutine with a bench."""

    def run(test: Test, **settings: Any) -> None:
        async def with_bench() -> None:
            async with Redis.from_url(redis_url) as redis:
                await test(Bench(redis, tmp_path, **settings))

        asyncio.run(with_bench())

    return run


def test_a_finished_job_sends_its_segments_in_order_and_then_how_it_ended(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, endpoint = await bench.job(segments=3)

        # When
        delivered = await bench.deliver_all()

        # Then
        results = [f"evt_job_1_{segment}_webhook-{endpoint}" for segment in range(3)]
        assert delivered[:-1] == results
        assert delivered[-1].startswith("evt_job_1_completed-")
        after = await bench.table.get(job.id)
        assert (after.callbacks_delivered, after.callbacks_pending, after.callbacks_dead) == (4, 0, 0)
        assert await bench.table.delivering() == []
        assert await bench.redis.exists(keys.EVENT_LANES) == 0

    on_bench(test)


def test_results_go_out_while_the_job_still_runs_and_none_overtakes_a_gap(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given a job of three segments, of which the second is not done
        job, endpoint = await bench.job(segments=1, state=None)
        for number in (1, 2):
            await bench.redis.hset(keys.job(job.id), "state", "receiving")
            await bench.table.append(
                job.id, Segment(number, 4 * number, 4 * number + 4, "abcdefgh"), 1, checksum=0, quota_bytes=0
            )
        await bench.table.enter(job.id, State.IN_PROGRESS, since=[State.RECEIVING])
        await run_segment(bench.table, bench.store, job.id, 2)

        # Then
        assert await bench.deliver_all() == [f"evt_job_1_0_webhook-{endpoint}"]

        # When it is
        await run_segment(bench.table, bench.store, job.id, 1)

        # Then
        assert len(await bench.deliver_all()) == 2

    on_bench(test)


def test_a_long_job_has_few_events_at_a_time(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, _ = await bench.job(segments=100)

        # When nothing is delivered
        for _ in range(3):
            await bench.pump.step()

        # Then
        assert (await bench.table.get(job.id)).callbacks_pending == pumping.MOST_PENDING
        assert len(await bench.sent()) == 4  # which are with the workers

    on_bench(test)


def test_what_is_remembered_of_delivered_events_is_bounded(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, _ = await bench.job(segments=150)

        # When
        assert len(await bench.deliver_all()) == 151

        # Then
        assert len(await bench.redis.keys("millrace:event:*")) == 100
        remembered = await bench.events.of_job(job.id)
        assert [event.segment for event in remembered[:2]] == [51, 52]
        assert remembered[-1].type is EventType.JOB_COMPLETED

    on_bench(test)


def test_receivers_that_are_new_or_slow_leave_room_for_those_that_answer(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given more receivers than there are threads, of which nothing is known, with two jobs each
        async def jobs(host: str) -> None:
            for number in range(2):
                endpoint = bench.registry.new(f"https://{host}.example/{number}", events=["job.results"], inline=True)
                await bench.registry.keep(endpoint)
                made = spec(f"job_{host}_{number}", delivery=Delivery(endpoint=endpoint.id))
                await add_job(bench.table, bench.store, made, segments=8, state=State.COMPLETED)

        async def out() -> list[str]:
            for _ in range(3):
                await bench.pump.step()
            events = [await bench.begin(*sent) for sent in await bench.sent()]
            under_way.extend(events)
            return sorted(event.lane.removeprefix("webhook-https://").removesuffix(".example:443") for event in events)

        under_way: list[Event] = []
        names = [f"new{number:02}" for number in range(30)]
        for name in names:
            await jobs(name)

        # Then half of the threads are for them, one each
        tried = await out()
        assert (len(tried), len(set(tried))) == (8, 8)

        # When none of these answers
        silent = [under_way.pop() for _ in range(8)]
        for event in silent:
            await bench.events.settle(event, EventState.PENDING, Attempt(at=1.0, error="no answer"), delay_s=60)

        # Then the next are tried, and of those only so many again as a quarter of the threads
        # (every lane is due again, however fast this test runs).
        lanes = await bench.redis.zrange(keys.EVENT_LANES, 0, -1)
        await bench.redis.zadd(keys.EVENT_LANES, dict.fromkeys(lanes, 1))
        again = await out()
        assert len([name for name in again if name in tried]) == 4
        assert len({name for name in again if name not in tried}) == 8

        # When one comes that has answered before
        await bench.redis.set(keys.events_pace("webhook-https://well.example:443"), "prompt")
        await jobs("well")

        # Then it waits for none of them, and has its own limit for both its jobs
        assert await out() == ["well"] * 4

    on_bench(test, callback_threads=16)


def test_a_receiver_has_only_so_many_events_at_a_time(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        await bench.job(segments=10)

        # When
        await bench.pump.step()
        first = await bench.sent()
        await bench.pump.step()

        # Then
        assert len(first) == 2
        assert await bench.sent() == []

        # When one of them ends
        event = await bench.begin(*first[0])
        await bench.events.settle(event, EventState.DELIVERED, Attempt(at=0.0, status=204))
        await bench.pump.step()

        # Then
        assert len(await bench.sent()) == 1

    on_bench(test, webhook_concurrency=2)


def test_an_event_whose_worker_is_silent_is_given_to_another_and_ends_once(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given an event that a worker has
        job, _ = await bench.job(segments=1)
        await bench.pump.step()
        ((event_id, token),) = await bench.sent()
        lost = await bench.begin(event_id, token)

        # When its lease ends
        await bench.redis.zadd(keys.events_out(lost.lane), {event_id: 1})
        await bench.redis.zadd(keys.EVENT_LANES, {lost.lane: 1})
        await bench.pump.step()

        # Then it is given out again, and the first worker's failure no longer counts
        ((again, other_token),) = await bench.sent()
        assert (again, other_token) == (event_id, token + 1)
        assert await bench.events.begin(event_id, token, lease_s=60) is None
        assert not await bench.events.settle(lost, EventState.PENDING, Attempt(at=0.0, error="late"))

        # When both say that it has arrived
        second = await bench.begin(event_id, other_token)
        assert await bench.events.settle(lost, EventState.DELIVERED, Attempt(at=0.0, status=200))
        assert not await bench.events.settle(second, EventState.DELIVERED, Attempt(at=0.0, status=200))

        # Then
        assert (await bench.table.get(job.id)).callbacks_delivered == 1
        assert (await bench.table.get(job.id)).callbacks_pending == 0

    on_bench(test)


def test_a_failed_event_waits_for_its_time_and_keeps_a_log(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, _ = await bench.job(segments=1)
        await bench.pump.step()
        ((event_id, token),) = await bench.sent()

        # When
        event = await bench.begin(event_id, token)
        await bench.events.settle(event, EventState.PENDING, Attempt(at=5.0, status=500, error="no"), delay_s=0.3)
        await bench.pump.step()

        # Then
        assert await bench.sent() == []
        (waiting,) = await bench.events.of_job(job.id)
        assert (waiting.state, waiting.attempts) == (EventState.PENDING, 1)
        assert waiting.log == [Attempt(at=5.0, status=500, error="no")]
        assert waiting.due_at is not None
        assert abs(waiting.due_at - time.time() - 0.3) < 0.25

        # When its time has come
        await asyncio.sleep(0.35)
        await bench.pump.step()

        # Then
        assert [event_id for event_id, _ in await bench.sent()] == [event_id]

    on_bench(test)


def test_a_dead_event_is_kept_and_can_be_sent_again(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, _ = await bench.job(segments=1)
        await bench.pump.step()
        ((event_id, token),) = await bench.sent()
        event = await bench.begin(event_id, token)
        await bench.events.settle(event, EventState.DEAD, Attempt(at=1.0, status=500, error="no"))

        # Then
        assert (await bench.table.get(job.id)).callbacks_dead == 1
        (dead,) = await bench.events.of_job(job.id, [EventState.DEAD])
        assert await bench.redis.ttl(keys.event(dead.id)) > 6 * 86_400

        # When
        assert await bench.events.replay(dead)
        assert not await bench.events.replay(dead)

        # Then it is sent again under the same id
        assert event_id in await bench.deliver_all()
        after = await bench.table.get(job.id)
        assert (after.callbacks_dead, after.callbacks_pending) == (0, 0)

    on_bench(test)


def test_an_event_of_a_deleted_job_disappears(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given one event with a worker, one that waits
        job, _ = await bench.job(segments=2)
        await bench.pump.step()
        sent = await bench.sent()
        event = await bench.begin(*sent[0])

        # When
        await bench.table.delete(job)
        await bench.events.settle(event, EventState.DELIVERED, Attempt(at=1.0, status=200))
        await bench.redis.zadd(keys.events_out(event.lane), {sent[1][0]: 1})
        await bench.redis.zadd(keys.EVENT_LANES, {event.lane: 1})
        await bench.pump.step()

        # Then nothing of it is left
        left = await bench.redis.keys("millrace:*")
        assert [key for key in left if b"webhook" not in key and b"bytes" not in key] == []

    on_bench(test)


def test_an_endpoint_gets_the_types_of_events_that_it_asked_for(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        await bench.job(segments=3, events=("job.completed",))

        # When
        delivered = await bench.deliver_all()

        # Then
        assert len(delivered) == 1
        assert "completed" in delivered[0]

    on_bench(test)


def test_a_batch_sends_how_it_ended_alone(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        await bench.job(segments=3, kind=Kind.BATCH, job_id="batch_1", state=State.CANCELLED)

        # When
        await bench.pump.step()
        ((event_id, token),) = await bench.sent()

        # Then
        assert (await bench.begin(event_id, token)).type is EventType.BATCH_CANCELLED

    on_bench(test)


def test_a_sink_gets_results_and_no_word_of_the_end(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        await add_job(bench.table, bench.store, spec(delivery=Delivery(sink="products")), segments=2)

        # When
        delivered = await bench.deliver_all()

        # Then
        assert delivered == ["evt_job_1_0_sink-products", "evt_job_1_1_sink-products"]
        assert await bench.table.delivering() == []

    on_bench(test)


def test_a_job_that_is_resumed_goes_on_where_it_was_and_ends_with_another_event(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given a job that was cancelled after its first segment
        job, _ = await bench.job(segments=2, state=None)
        await bench.redis.setbit(keys.job_done(job.id), 1, 0)
        await bench.redis.hincrby(keys.job(job.id), "segments_done", -1)
        await bench.table.enter(job.id, State.CANCELLED, since=[State.IN_PROGRESS])
        before = await bench.deliver_all()

        # When
        await bench.table.enter(job.id, State.IN_PROGRESS, since=[State.CANCELLED])
        await bench.table.activate(job.spec)
        await run_segment(bench.table, bench.store, job.id, 1)
        await bench.table.enter(job.id, State.COMPLETED, since=[State.IN_PROGRESS])
        after = await bench.deliver_all()

        # Then
        assert [event.split("_")[3].split("-")[0] for event in before] == ["0", "cancelled"]
        assert [event.split("_")[3].split("-")[0] for event in after] == ["1", "completed"]

    on_bench(test)


def test_a_disabled_endpoint_stops_a_job_that_has_no_other_receiver(on_bench: Callable[..., None]) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, endpoint = await bench.job(segments=2)
        await bench.registry.disable(endpoint, "it answered 410")

        # When
        await bench.pump.step()

        # Then
        assert await bench.sent() == []
        stopped = (await bench.table.get(job.id)).callbacks_stopped
        assert stopped == f"webhook endpoint {endpoint} is disabled: it answered 410"
        assert await bench.table.delivering() == []

    on_bench(test)


def test_a_job_that_goes_to_nobody_is_given_up_on_after_many_dead_events(
    on_bench: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(bench: Bench) -> None:
        # Given
        job, _ = await bench.job(segments=30)
        monkeypatch.setattr(pumping, "MOST_DEAD", 5)

        # When
        while True:
            await bench.pump.step()
            sent = await bench.sent()
            if not sent:
                break
            for event_id, token in sent:
                event = await bench.begin(event_id, token)
                await bench.events.settle(event, EventState.DEAD, Attempt(at=1.0, status=500, error="no"))

        # Then it says so
        after = await bench.table.get(job.id)
        assert "given up" in after.callbacks_stopped
        assert after.callbacks_pending == 0

    on_bench(test)


def test_targets_read_as_they_were_written() -> None:
    for target in (Target(TargetKind.WEBHOOK, "we_1-2"), Target(TargetKind.SINK, "my-sink")):
        assert Target.parse(str(target)) == target
