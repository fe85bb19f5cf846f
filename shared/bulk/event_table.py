"""Events of bulk jobs on their way to webhook endpoints and sinks.

An event is one hash and stands in one of two sorted sets of its lane (`shared.bulk.lanes`): **due**, with the time at which
it is to be sent, or **out**, with the end of the lease of the callback worker that has it. The runner moves what is due to
out, as many as the lane's receiver has free slots, and asks the callback workers for it by ordinary Celery messages; a
worker whose lease ended (killed, or its message lost) has its events given out again. The results themselves stay in the
store until they are sent.

An event's id follows from what it says, so one that is made or sent twice has one `webhook-id`.
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from shared import keys, lua
from shared.bulk.events import WHOLE_JOB, Attempt, Event, EventState, NewEvent
from shared.bulk.jobs import Job
from shared.bulk.lanes import PACE_TTL_S, PROMPT_MS, Bounds, is_bounded

#: Attempts of an event that are remembered.
_ATTEMPTS_KEPT = 20
#: Delivered events of a job that are remembered, and for how long an event that has ended is, in seconds.
_DELIVERED_KEPT = 100
_ENDED_TTL_S = 7 * 86_400
#: ms after which a lane is looked at again for which no slot was free, and those that a slow one waits behind it.
_AGAIN_MS, _TURN_MS = 200, 500


class EventTable:
    """Events by id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._emit, self._lease, self._begin, self._settle, self._replay = (
            redis.register_script(lua.script(f"bulk/event_{name}"))
            for name in ("emit", "lease", "begin", "settle", "replay")
        )

    async def emit(
        self, job: Job, events: Sequence[NewEvent], *, cursor: int, now: float, final: str = "", own: bool = True
    ) -> bool:
        """Make events and move the job's cursor past them.

        Args:
            job: As it was read; nothing happens if its cursor has moved since.
            events: To be made.
            cursor: Segment whose events are to be made next.
            now: Unix seconds.
            final: `mark_of_end`, when these are the job's last.
            own: Whether they are for receivers that the job names.

        Returns:
            Whether they were made now.
        """
        packed = [
            part
            for event in events
            for part in (event.id, str(event.receiver.target), event.receiver.lane, event.segment, str(event.type))
        ]
        made = await self._emit(
            keys=[keys.job(job.id), keys.job_events(job.id), keys.EVENT_LANES, keys.DELIVERING_JOBS],
            args=[
                *(job.id, job.callback_cursor, cursor, final, int(now)),
                *(keys.EVENT_PREFIX, keys.EVENTS_DUE_PREFIX, "own" if own else "others", *packed),
            ],
        )
        return bool(made == 1)

    async def due_lanes(self, *, most: int) -> list[str]:
        """Some lanes that may have events to be given out, those first that have waited longest."""
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        found = await self._redis.zrangebyscore(keys.EVENT_LANES, "-inf", now_ms, start=0, num=most)
        return [lane.decode() for lane in cast("list[bytes]", found)]

    async def lease(self, lane: str, *, bounds: Bounds, lease_s: float) -> list[tuple[str, int]]:
        """Take the events of a lane whose time has come.

        Args:
            lane: The lane.
            bounds: Events that may be out at a time.
            lease_s: How long they are the taker's.

        Returns:
            Each event's id and the token of its lease.
        """
        flat = await self._lease(
            keys=[
                *(keys.events_due(lane), keys.events_out(lane), keys.EVENT_LANES),
                *(keys.events_pace(lane), keys.EVENTS_TO_NEW, keys.EVENTS_TO_SLOW),
            ],
            args=[
                *(lane, bounds.each, int(lease_s * 1000), keys.EVENT_PREFIX),
                *(bounds.new if is_bounded(lane) else "", bounds.slow, _AGAIN_MS),
            ],
        )
        return [(event.decode(), int(token)) for event, token in zip(flat[::2], flat[1::2], strict=True)]

    async def begin(self, event_id: str, token: int, *, lease_s: float) -> Event | None:
        """An event that is to be sent now; None if it has been given to somebody else, or has ended.

        Args:
            event_id: The event.
            token: Of the lease under which it was given out.
            lease_s: How long it is the caller's from now on.
        """
        flat = await self._begin(
            keys=[keys.event(event_id), keys.EVENTS_TO_NEW, keys.EVENTS_TO_SLOW],
            args=[event_id, token, int(lease_s * 1000), keys.EVENTS_OUT_PREFIX],
        )
        return _event(event_id, dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None

    async def settle(
        self, event: Event, state: EventState, attempt: Attempt, *, delay_s: float = 0.0, stopped: str = ""
    ) -> bool:
        """Record how an attempt ended.

        Args:
            event: As `begin` gave it.
            state: `PENDING` when it is to be tried again.
            attempt: The attempt.
            delay_s: After how many seconds it is tried again.
            stopped: Why the job gets no more callbacks; empty if it does.

        Returns:
            False when the event was no longer the caller's.
        """
        log = [entry.model_dump(exclude_none=True) for entry in [*event.log, attempt][-_ATTEMPTS_KEPT:]]
        recorded = await self._settle(
            keys=[
                *(keys.job(event.job), keys.event(event.id)),
                *(keys.events_due(event.lane), keys.events_out(event.lane)),
                *(keys.job_events(event.job), keys.job_delivered(event.job), keys.EVENT_LANES),
                *(keys.events_pace(event.lane), keys.EVENTS_TO_NEW, keys.EVENTS_TO_SLOW),
            ],
            args=[
                *(event.id, event.lease, str(state), orjson.dumps(log), int(delay_s * 1000), stopped),
                *(_ENDED_TTL_S, _DELIVERED_KEPT, keys.EVENT_PREFIX, event.lane),
                *(_pace(attempt) if is_bounded(event.lane) else "", PACE_TTL_S, _TURN_MS),
            ],
        )
        return bool(recorded)

    async def find(self, event_ids: Sequence[str]) -> list[Event]:
        """Those of some events that are remembered."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for event_id in event_ids:
                pipe.hgetall(keys.event(event_id))
            found = await pipe.execute()
        return [_event(event_id, fields) for event_id, fields in zip(event_ids, found, strict=True) if fields]

    async def of_job(self, job_id: str, states: Collection[EventState] = frozenset(EventState)) -> list[Event]:
        """A job's events in these states, oldest first: all that are pending or dead, the last that were delivered."""
        ids = cast("list[bytes]", await self._redis.zrange(keys.job_events(job_id), 0, -1))
        events = await self.find([event_id.decode() for event_id in ids])
        return sorted((event for event in events if event.state in states), key=_order)

    async def replay(self, event: Event) -> bool:
        """Have an event that has ended sent again; False if it has not ended, or is gone."""
        will_be_sent = await self._replay(
            keys=[
                *(keys.job(event.job), keys.event(event.id)),
                *(keys.EVENT_LANES, keys.job_delivered(event.job)),
            ],
            args=[event.id, keys.EVENTS_DUE_PREFIX],
        )
        return bool(will_be_sent)

    async def waiting(self) -> int:
        """Events of all lanes that have not ended."""
        found = await self._redis.zrange(keys.EVENT_LANES, 0, -1)
        lanes = [lane.decode() for lane in cast("list[bytes]", found)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.zcard(keys.events_due(lane))
                pipe.zcard(keys.events_out(lane))
            return sum(await pipe.execute())


def _event(event_id: str, fields: dict[bytes, bytes]) -> Event:
    named: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    # Events from before there were lanes wait in one of their target's name.
    return Event(id=event_id, **{"lane": named["target"], **named, "log": orjson.loads(named["log"])})


def _pace(attempt: Attempt) -> str:
    """What an attempt says of its receiver."""
    return "slow" if attempt.status is None or attempt.ms > PROMPT_MS else "prompt"


def _order(event: Event) -> tuple[int, bool, int]:
    return event.created_at, event.segment == WHOLE_JOB, event.segment
