"""The live workers and the backlog of all gateways, polled from Redis; and the recovery of what dead workers held."""

import asyncio
import time
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.aside import aside
from api.backlog import Backlog
from api.cards import Cards
from shared import dead_letters, keys, leases, lua
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.model_card import ModelCard, WorkerCard
from shared.redis_connections import SilenceWatch

log = get_logger("millrace.fleet")

#: Token budget of a batch while no worker has said what its own is.
DEFAULT_BATCH_TOKENS = 4096
#: Silence of Redis, which is asked twice a second, after which it is as good as away, in seconds: no command takes longer.
SILENT_AFTER_S = 2.0


class Fleet:
    """What the workers' heartbeats say, at most `WATCH_INTERVAL_S` old."""

    def __init__(self, redis: Redis, backlog: Backlog, metrics: Metrics, *, result_ttl_s: int) -> None:
        self._redis = redis
        self._backlog = backlog
        self._metrics = metrics
        self._result_ttl_s = result_ttl_s
        self._watch = leases.LeaseWatch()
        self._silence = SilenceWatch()
        self._cards = Cards()
        self._recover = redis.register_script(lua.script("recover"))
        self.workers: dict[str, WorkerCard] = {}
        #: Live callback workers, which have no cards.
        self.callback_workers = 0
        #: The last card of each model, from whatever worker, which may be long gone.
        self.known: dict[str, ModelCard] = {}
        #: Workers that died or fell silent, ever.
        self.lost_workers = 0
        #: Tasks given up because their workers died again and again, ever.
        self.dead_letters = 0
        #: Whether these two have been read.
        self.has_counts = False
        #: False while Redis cannot be reached.
        self.reachable = False
        #: When it last answered, by the monotonic clock.
        self._heard_at = time.monotonic()
        #: When Redis was last away or a worker died, by the monotonic clock: what waited then says nothing about speed.
        self.troubled_at = time.monotonic()

    @property
    def is_silent(self) -> bool:
        """Whether Redis has not answered for so long that it is away, or as good as away, whoever has been told."""
        return not self.reachable or time.monotonic() - self._heard_at > SILENT_AFTER_S

    def workers_of(self, model: str) -> int:
        """Number of live workers that serve `model`."""
        return len(self._serving(model))

    def devices_of(self, model: str) -> list[str]:
        """What the live workers that serve `model` call their devices."""
        return [worker.device for worker in self._serving(model)]

    def _serving(self, model: str) -> list[WorkerCard]:
        return [worker for worker in self.workers.values() if any(card.name == model for card in worker.models)]

    def wedged_workers(self) -> int:
        """Number of workers that say of themselves that they do not get on."""
        return sum(worker.state == "wedged" for worker in self.workers.values())

    def tokens_per_s(self, model: str) -> float:
        """What all workers of `model` make together, by their own measurements; 0 while there are none."""
        return sum(
            card.tokens_per_s for worker in self.workers.values() for card in worker.models if card.name == model
        )

    def card(self, model: str) -> ModelCard | None:
        """What `model` is: by a live worker that is ready, else by the last one there was; None if there never was any."""
        return self._live_card(model) or self.known.get(model)

    def is_served(self, model: str) -> bool:
        """Whether a live worker is ready that has run `model`."""
        return self._live_card(model) is not None

    def _live_card(self, model: str) -> ModelCard | None:
        for worker in self.workers.values():
            for card in worker.models:
                if card.name == model and worker.state == "ready":
                    return card
        return None

    def batch_tokens(self, model: str) -> int:
        """Token budget of a batch of `model`."""
        card = self.card(model)
        return card.max_batch_tokens if card else DEFAULT_BATCH_TOKENS

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            asked_at = time.monotonic()
            try:
                await self._look()
            except (RedisError, OSError) as err:
                self._silence.failed(err, asked_at)
                if self.reachable:
                    log.warning("redis_lost", error=str(err))
                self.reachable = False
                self.troubled_at = time.monotonic()
                self._watch.forget()
            else:
                self._silence.answered()
                if not self.reachable:
                    log.info("redis_reached")
                    self.troubled_at = time.monotonic()
                self.reachable = True
                self._heard_at = time.monotonic()
            await asyncio.sleep(leases.WATCH_INTERVAL_S)

    async def _look(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.LEASES, 0, -1, withscores=True)
            pipe.hgetall(keys.BACKLOG)
            pipe.mget(keys.LOST_WORKERS, keys.DEAD_LETTERS_EVER)
            pipe.hgetall(keys.MODEL_CARDS)
            (seconds, microseconds), entries, said, counts, shown = await pipe.execute()
        self.known = self._cards.models(shown)
        lost_workers, self.dead_letters = (int(count or 0) for count in counts)
        if lost_workers != self.lost_workers:
            self.lost_workers, self.troubled_at = lost_workers, time.monotonic()
        self.has_counts = True
        server_now = seconds * 1000 + microseconds / 1000
        await self._tell_backlog(said, server_now / 1000)
        lease_ends = {worker.decode(): end for worker, end in entries}
        live = [worker for worker, end in lease_ends.items() if end > server_now]
        await self._read_cards(live)
        self.callback_workers = sum(
            worker.startswith(leases.CALLBACK_WORKERS) and worker not in self.workers for worker in live
        )
        for worker in self._watch.observe(lease_ends, server_now, time.monotonic()):
            await self._take_back(worker)

    async def _tell_backlog(self, said: Mapping[bytes, bytes], server_now_s: float) -> None:
        silent = self._backlog.hear(said, server_now_s)
        async with self._redis.pipeline(transaction=False) as pipe:
            process_id, waiting = self._backlog.mine(server_now_s)
            pipe.hset(keys.BACKLOG, process_id, waiting)
            for model in self._backlog.take_asked():
                pipe.sadd(keys.awake(model), process_id)
                pipe.expire(keys.awake(model), keys.AWAKE_TTL_S)
            if silent:
                pipe.hdel(keys.BACKLOG, *silent)
            await pipe.execute()

    async def _read_cards(self, live: list[str]) -> None:
        values = await self._redis.mget([keys.worker_card(worker) for worker in live]) if live else []
        self.workers = self._cards.workers(zip(live, values, strict=True))

    async def _take_back(self, worker: str) -> None:
        script_keys, arguments = leases.recover_call(worker)
        restored, given_up = await self._recover(keys=script_keys, args=arguments)
        if restored or given_up:
            log.warning("worker_lost", worker=worker, tasks_requeued=restored, tasks_given_up=len(given_up))
            self._metrics.counter("millrace_recovered_tasks_total").inc(restored)
        if given_up:
            letters = await aside(dead_letters.of_recovered, worker, given_up)
            async with self._redis.pipeline(transaction=False) as pipe:
                dead_letters.write(pipe, letters)
                dead_letters.answer(pipe, letters, result_ttl_s=self._result_ttl_s)
                await pipe.execute()
