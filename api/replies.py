"""Replies: one pattern subscription per gateway process, a sweep for what it missed, and re-publication of what was lost.

Pub/sub forgets: killing the subscription for 50 ms under load left 100 of 600 requests unresolved, and one MGET found
them all. So tasks older than half a second are looked up each second and after each (re)subscription; what is then
neither answered, nor queued, nor held by a worker, twice in a row, is published again. Inference is deterministic and
task ids are idempotent, so a second run is harmless and the first reply wins.

Of a task whose batch failed, workers tell what is done before the rest (`Progress`): the task is pending until its outcome.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from api.aside import aside
from shared import dead_letters, keys, leases, lua
from shared.celery_message import Progress, as_suspect, decode_result
from shared.errors import MillraceError, WorkerLost
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.queues import Lane, queue_name
from shared.redis_connections import met_with_silence
from shared.results import Reply

log = get_logger("millrace.replies")

#: How often unanswered tasks are looked up, in seconds.
SWEEP_INTERVAL_S = 1.0
#: Tasks younger than this are left to the subscription, in seconds.
SWEEP_AGE_S = 0.5
#: Silence after which the subscription is tested with a ping, and the time that it has to answer, in seconds.
PING_AFTER_S = 2.0
#: A task is abandoned this long after its deadline, in seconds: the worker's own "expired" answer comes before.
ABANDON_AFTER_S = 2.0

Outcome = list[Reply] | MillraceError


@dataclass(slots=True)
class PendingTask:
    """A published task that has not been answered."""

    task_id: str
    model: str
    lane: Lane
    message: bytes
    #: Latest deadline of its requests, Unix seconds.
    deadline: float
    on_outcome: Callable[[Outcome | None], None]
    #: Told of replies that come before the outcome, by the request's position in the task; of the same perhaps again.
    on_progress: Callable[[Mapping[int, Reply]], None]
    #: Monotonic time of publication.
    published_at: float
    #: Sweeps in a row in which it was nowhere to be found.
    times_missing: int = 0


class Replies:
    """The tasks that this gateway waits for."""

    def __init__(self, redis: Redis, subscriber: Redis, metrics: Metrics, gateway_id: str) -> None:
        """Build the listener.

        Args:
            redis: Client for lookups and publication.
            subscriber: Client whose connections wait without a socket timeout.
            metrics: The gateway's metrics.
            gateway_id: What this process's task ids start with.
        """
        self._redis = redis
        self._subscriber = subscriber
        self._metrics = metrics
        self._pattern = keys.result_pattern(gateway_id)
        self._missing = redis.register_script(lua.script("missing"))
        self._pending: dict[str, PendingTask] = {}
        #: Set once the subscription has been confirmed; publishing before that could miss the reply.
        self.subscribed = asyncio.Event()
        self._heard_at = 0.0
        self._outgoing: list[PendingTask] = []
        #: Results that have been received and need not wait for their time in Redis to end.
        self._received: list[str] = []
        self._publishing: asyncio.Task[None] | None = None

    def publish(self, task: PendingTask) -> None:
        """Put a task on its queue, together with others published meanwhile, and wait for its outcome.

        Its `on_outcome` is called exactly once, with None if it was abandoned. When Redis cannot be reached, the sweep
        publishes it later.
        """
        self._pending[task.task_id] = task
        self._outgoing.append(task)
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.get_running_loop().create_task(self._send_outgoing())

    async def _send_outgoing(self) -> None:
        while self._outgoing:
            together, self._outgoing = self._outgoing, []
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for task in together:
                        pipe.lpush(queue_name(task.model, task.lane), task.message)
                    await pipe.execute()
            except (RedisError, OSError) as err:
                met_with_silence(err)
                log.warning("publication_delayed", tasks=len(together), error=str(err))

    async def listen(self) -> None:
        """Receive replies until cancelled, resubscribing whenever the connection breaks."""
        while True:
            connection: AbstractConnection | None = None
            try:
                # The bare connection: redis-py's PubSub adds a tenth of a millisecond to each reply.
                connection = await self._subscriber.connection_pool.get_connection()
                await connection.send_command("PSUBSCRIBE", self._pattern)
                await connection.read_response(push_request=True)
                self.subscribed.set()
                await self._sweep(min_age_s=0.0)
                await self._receive(connection)
            except (RedisError, OSError, TimeoutError) as err:
                log.warning("subscription_lost", error=str(err) or type(err).__name__)
                await asyncio.sleep(0.2)
            finally:
                if connection is not None:
                    await connection.disconnect(nowait=True)
                    await self._subscriber.connection_pool.release(connection)

    async def sweep(self) -> None:
        """Look up what the subscription missed, each second until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self._abandon()
            with suppress(RedisError, OSError):  # the fleet logs the outage; the next sweep tries again
                await self._forget_received()
                await self._republish(await self._sweep(min_age_s=SWEEP_AGE_S))

    async def _receive(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        ticker = loop.create_task(self._ping(connection))
        try:
            while True:
                response = await connection.read_response(push_request=True)
                self._heard_at = loop.time()
                if isinstance(response, list) and response[0] == b"pmessage":
                    self._resolve(
                        response[2].decode().removeprefix(keys.result("")), cast("bytes", response[3]), way="pubsub"
                    )
        finally:
            ticker.cancel()

    async def _ping(self, connection: AbstractConnection) -> None:
        """Test a silent subscription; close one that does not answer, which wakes its reader with an error."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        while True:
            await asyncio.sleep(max(0.0, self._heard_at + PING_AFTER_S - loop.time()))
            asked_at = loop.time()
            if asked_at < self._heard_at + PING_AFTER_S:
                continue
            # The reader sees the same error and resubscribes; redis-py's own is what a connection says that has just ended.
            with suppress(RedisError, OSError, AttributeError):
                await connection.send_command("PING")
            await asyncio.sleep(PING_AFTER_S)
            if self._heard_at < asked_at:
                met_with_silence()
                await connection.disconnect(nowait=True)

    def _resolve(self, task_id: str, value: bytes, *, way: str) -> None:
        task = self._pending.get(task_id)
        if task is None:
            return
        outcome = decode_result(value)
        if outcome is None:
            return
        if isinstance(outcome, Progress):
            task.on_progress(outcome.replies)
            return
        del self._pending[task_id]
        self._received.append(keys.result(task_id))
        self._metrics.counter("millrace_replies_total", way=way).inc()
        task.on_outcome(outcome)

    async def _forget_received(self) -> None:
        """Give back the memory of results: a bulk job's would take gigabytes until their time ends by itself."""
        received, self._received = self._received, []
        if received:
            await self._redis.unlink(*received)

    async def _sweep(self, *, min_age_s: float) -> list[PendingTask]:
        """Resolve what Redis has answers for; return the old tasks that it has none for."""
        now = time.monotonic()
        old = [task for task in self._pending.values() if now - task.published_at >= min_age_s]
        if not old:
            return []
        values = await self._redis.mget([keys.result(task.task_id) for task in old])
        for task, value in zip(old, values, strict=True):
            if value is not None:
                self._resolve(task.task_id, cast("bytes", value), way="sweep")
        return [task for task in old if task.task_id in self._pending]

    async def _republish(self, unanswered: list[PendingTask]) -> None:
        by_queue: dict[tuple[str, Lane], list[PendingTask]] = defaultdict(list)
        for task in unanswered:
            by_queue[task.model, task.lane].append(task)
        for (model, lane), tasks in by_queue.items():
            queue = queue_name(model, lane)
            script_keys, arguments = leases.missing_call(queue, [task.task_id for task in tasks])
            missing = {task_id.decode() for task_id in await self._missing(keys=script_keys, args=arguments)}
            for task in tasks:
                task.times_missing = task.times_missing + 1 if task.task_id in missing else 0
                # Once may be the moment between BRPOP and kombu's record of it.
                if task.times_missing >= 2 and task.task_id in self._pending:
                    task.times_missing = 0
                    await self._publish_again(task, queue)

    async def _publish_again(self, task: PendingTask, queue: str) -> None:
        """Put a lost task back; a suspect as one, so that what it may do is done to no others again.

        Which of its requests ran when a worker died is forgotten, so it does not run last: should a third worker die of it,
        those that come after it and have not been answered are given up with it.
        A Redis that has forgotten the counter too has forgotten how often workers died of it, and the count begins anew.
        """
        deaths = int(await self._redis.get(keys.deliveries(task.task_id)) or 0)
        if deaths >= leases.MAX_DELIVERIES:
            # Who recovered it from its last worker died before it had written the letter and the answer.
            letter = await aside(
                dead_letters.of_task, task.task_id, queue, task.message, worker="unknown", deaths=deaths
            )
            async with self._redis.pipeline(transaction=False) as pipe:
                dead_letters.write(pipe, [letter])
                await pipe.execute()
            if self._pending.pop(task.task_id, None) is not None:
                task.on_outcome(WorkerLost())
            return
        log.warning("task_republished", task_id=task.task_id, model=task.model, lane=str(task.lane))
        self._metrics.counter("millrace_tasks_republished_total", model=task.model, lane=str(task.lane)).inc()
        await self._redis.rpush(queue, as_suspect(task.message) if deaths else task.message)

    def _abandon(self) -> None:
        now = time.time()
        for task in [task for task in self._pending.values() if now > task.deadline + ABANDON_AFTER_S]:
            del self._pending[task.task_id]
            task.on_outcome(None)
