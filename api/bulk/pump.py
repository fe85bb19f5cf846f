"""The callback pump of the job runner: makes events of what is done, and hands those that are due to the callback workers.

A job's segments are walked in order. At most some dozen events of a job are pending at a time, so Redis stays small however
long the job is; the results stay in the store. Several runners may pump: each step is one script that takes effect once.
"""

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.bulk.event_table import EventTable
from shared.bulk.events import EventType, NewEvent, Receiver, mark_of_end, type_of_end
from shared.bulk.jobs import Job, Kind, WebhookEndpoint
from shared.bulk.lanes import Bounds
from shared.bulk.settings import WebhookSettings
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry, why_stopped
from shared.celery_message import encode_callback
from shared.logging import get_logger
from shared.queues import CALLBACK_QUEUE

log = get_logger("millrace.callbacks")

#: Events of a job that are pending at a time.
MOST_PENDING = 32
#: Events of a job that are given up before it gets no more; they are kept to be replayed.
MOST_DEAD = 1_000
#: Messages that wait for callback workers before no more are added; without workers they would only grow old.
_MOST_QUEUED = 1_000
#: Lanes that are looked at in one go.
_MOST_LANES = 100
#: Pause between two looks, in seconds: while there is something to do, and while there is not.
_BUSY_S, _IDLE_S = 0.05, 0.25


class CallbackPump:
    """Keeps callbacks flowing.

    Args:
        redis: Where jobs and events are.
        table: The jobs.
        settings: How many go to one receiver at a time, and for how long a worker has them.
    """

    def __init__(self, redis: Redis, table: JobTable, settings: WebhookSettings) -> None:
        self._redis = redis
        self._table = table
        self._lease_s = settings.webhook_lease_s
        self._bounds = Bounds.of(threads=settings.callback_threads, concurrency=settings.webhook_concurrency)
        self._events = EventTable(redis)
        self._registry = WebhookRegistry(redis, settings.allowed_webhook_hosts())
        self._origin = f"pump-{uuid4().hex[:8]}"
        self._published = 0

    async def run(self) -> None:
        """Pump until cancelled."""
        reachable = True
        while True:
            busy = False
            try:
                busy = await self.step()
                reachable = True
            except (RedisError, OSError) as err:
                if reachable:
                    log.warning("redis_lost", error=str(err))
                reachable = False
            except Exception:
                # A record that cannot be read must not end the callbacks of all other jobs.
                log.exception("pump_failed")
            await asyncio.sleep(_BUSY_S if busy else _IDLE_S)

    async def step(self) -> bool:
        """Look once at all jobs and all lanes; whether there was something to do."""
        made = 0
        for job_id in await self._table.delivering():
            made += await self._walk(job_id)
        return bool(await self._publish() or made)

    async def _walk(self, job_id: str) -> int:
        """Make the next events of a job; how many."""
        job = await self._table.find(job_id)
        if job is None:
            await self._table.delivered(job_id)
            return 0
        if job.state.is_final:
            await self._announce(job)
        webhook, stopped = await self._webhook(job)
        sink = Receiver.sink(job.spec.delivery.sink) if job.spec.delivery.sink else None
        if job.callbacks_dead >= MOST_DEAD:
            stopped, webhook, sink = f"{job.callbacks_dead:,} callbacks were given up", None, None
        if stopped and stopped != job.callbacks_stopped:
            await self._table.set(job.id, callbacks_stopped=stopped)
            log.warning("callbacks_stopped", job=job.id, reason=stopped)
        if stopped and sink is None:
            await self._table.delivered(job.id)
            return 0
        receivers: list[Receiver] = []
        if job.spec.kind is Kind.INGEST:
            receivers = [sink] if sink else []
            receivers += [Receiver.webhook(webhook)] if webhook and _wants(webhook, EventType.RESULTS) else []
        made = await self._make_results(job, receivers)
        if made == 0 and job.state.is_final and job.callbacks_pending == 0:
            await self._make_final(job, webhook)
        return made

    async def _webhook(self, job: Job) -> tuple[WebhookEndpoint | None, str]:
        """The endpoint of a job, and why nothing is sent to it if nothing is."""
        endpoint_id = job.spec.delivery.endpoint
        if endpoint_id is None:
            return None, ""
        endpoint = await self._registry.find(endpoint_id)
        if endpoint is None:
            return None, f"webhook endpoint {endpoint_id} was deleted"
        return endpoint, why_stopped(endpoint_id, endpoint.disabled) if endpoint.disabled else ""

    async def _make_results(self, job: Job, receivers: Sequence[Receiver]) -> int:
        """Events of the segments that are done, in order; a job that ended early has some behind the first that is not."""
        room = (MOST_PENDING - job.callbacks_pending) // max(1, len(receivers))
        if not receivers or room <= 0:
            return 0
        end = min(await self._table.done_before(job), job.callback_cursor + room)
        events = [
            NewEvent.of_segment(job, segment, receiver)
            for segment in range(job.callback_cursor, end)
            for receiver in receivers
        ]
        if not events or not await self._events.emit(job, events, cursor=end, now=time.time()):
            return 0
        return len(events)

    async def _make_final(self, job: Job, webhook: WebhookEndpoint | None) -> None:
        """The event that says how a job ended: after all that carry its results."""
        events: list[NewEvent] = []
        if webhook is not None:
            event = NewEvent.of_end(job, Receiver.webhook(webhook))
            events = [event] if _wants(webhook, event.type) else []
        await self._events.emit(job, events, cursor=job.callback_cursor, now=time.time(), final=mark_of_end(job))

    async def _announce(self, job: Job) -> None:
        """Tell those who want to hear of every job how this one ended; the job's own receivers are told by it."""
        mark = mark_of_end(job)
        if job.callbacks_announced == mark:
            return
        subscribed = await self._registry.subscribed(type_of_end(job), tenant=job.spec.tenant)
        events = [
            NewEvent.of_end(job, Receiver.webhook(endpoint))
            for endpoint in subscribed
            if endpoint.id != job.spec.delivery.endpoint
        ]
        await self._events.emit(job, events, cursor=job.callback_cursor, now=time.time(), final=mark, own=False)

    async def _publish(self) -> int:
        """Ask the callback workers for what is due; how much."""
        if int(await self._redis.llen(CALLBACK_QUEUE)) >= _MOST_QUEUED:
            return 0
        messages: list[bytes] = []
        for lane in await self._events.due_lanes(most=_MOST_LANES):
            leased = await self._events.lease(lane, bounds=self._bounds, lease_s=self._lease_s)
            for event_id, token in leased:
                self._published += 1
                task_id = f"{self._origin}-{self._published}"
                messages.append(encode_callback(task_id, event_id, token, origin=self._origin))
        if messages:
            await self._redis.lpush(CALLBACK_QUEUE, *messages)
        return len(messages)


def _wants(endpoint: WebhookEndpoint, kind: EventType) -> bool:
    return not endpoint.events or kind in endpoint.events
