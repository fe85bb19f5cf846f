"""The worker's heartbeat: it renews the lease, publishes the card, and takes back what dead workers held."""

import os
import signal
import threading
import time
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError

from shared import dead_letters, keys, leases, lua
from shared.logging import get_logger
from shared.model_card import CARD_TTL_S, WorkerCard
from shared.redis_connections import SilenceWatch

log = get_logger("millrace.heartbeat")

#: How long Redis may be away when a worker has loaded its models, in seconds: most outages are shorter than another loading.
_START_PATIENCE_S = 30.0


class Heartbeat:
    """A thread that says "alive" every `RENEW_INTERVAL_S`."""

    def __init__(self, redis: Redis, worker: str, card: Callable[[], WorkerCard], *, result_ttl_s: int) -> None:
        """Build the heartbeat.

        Args:
            redis: A client of its own.
            worker: This worker's id.
            card: What the worker says about itself right now.
            result_ttl_s: How long the answers to dead letters wait.
        """
        self._redis = redis
        self._worker = worker
        self._card = card
        self._result_ttl_s = result_ttl_s
        self._watch = leases.LeaseWatch()
        self._silence = SilenceWatch()
        self._renew = redis.register_script(lua.script("renew"))
        self._recover = redis.register_script(lua.script("recover"))
        #: Whether the last beat was told to Redis.
        self.reachable = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Take the lease, which may have to wait for Redis, then keep it.

        Raises:
            RedisError: Redis did not take it for half a minute.
            OSError: The same.
        """
        give_up_at = time.monotonic() + _START_PATIENCE_S
        while not self._reaches(self._beat):
            self._stop.wait(leases.RENEW_INTERVAL_S)
            if time.monotonic() > give_up_at:
                self._beat()
                break
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the lease back, unless messages are still unacknowledged: then it just ends."""
        self._stop.set()
        if self._thread.ident is None:
            return  # it has never been taken
        self._thread.join()
        try:
            if not self._redis.hlen(keys.unacked(self._worker)):
                self._redis.zrem(keys.LEASES, self._worker)
            self._redis.delete(keys.worker_card(self._worker))
        except (RedisError, OSError) as err:
            log.warning("lease_not_returned", error=str(err))

    def _run(self) -> None:
        try:
            while not self._stop.wait(leases.RENEW_INTERVAL_S):
                if self._reaches(self._beat):
                    self._reaches(self._look_after_others)
        except Exception:
            # A worker without a heartbeat looks alive and gets nothing to do: let its supervisor start another.
            log.exception("heartbeat_failed")
            os.kill(os.getpid(), signal.SIGTERM)

    def _reaches(self, do: Callable[[], None]) -> bool:
        """Do something in Redis; False where it did not take it."""
        asked_at = time.monotonic()
        try:
            do()
        except (RedisError, OSError) as err:
            if self.reachable:
                log.warning("redis_lost", error=str(err))
            self.reachable = False
            self._silence.failed(err, asked_at)
            self._watch.forget()
        else:
            self._silence.answered()
            if not self.reachable:
                log.info("redis_reached")
            self.reachable = True
        return self.reachable

    def _beat(self) -> None:
        script_keys, arguments = leases.renew_call(self._worker)
        self._renew(keys=script_keys, args=arguments)
        card = self._card()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.worker_card(self._worker), card.model_dump_json(), ex=CARD_TTL_S)
            # What the models are is still known when all their workers have been scaled away.
            for model in card.models:
                pipe.hset(keys.MODEL_CARDS, model.name, model.model_dump_json())
            pipe.execute()

    def _look_after_others(self) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.LEASES, 0, -1, withscores=True)
            (seconds, microseconds), entries = pipe.execute()
        lease_ends = {worker.decode(): end for worker, end in entries}
        for worker in self._watch.observe(lease_ends, seconds * 1000 + microseconds / 1000, time.monotonic()):
            script_keys, arguments = leases.recover_call(worker)
            restored, given_up = self._recover(keys=script_keys, args=arguments)
            if restored or given_up:
                log.warning("worker_lost", worker=worker, tasks_requeued=restored, tasks_given_up=len(given_up))
            if letters := dead_letters.of_recovered(worker, given_up):
                with self._redis.pipeline(transaction=False) as pipe:
                    dead_letters.write(pipe, letters)
                    dead_letters.answer(pipe, letters, result_ttl_s=self._result_ttl_s)
                    pipe.execute()
