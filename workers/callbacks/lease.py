"""The callback worker's lease: while it is renewed, messages that the worker has taken are left to it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import keys, leases, lua
from shared.logging import get_logger
from shared.redis_connections import SilenceWatch

log = get_logger("millrace.callbacks")

#: Between two measurements, in seconds.
_MEASURE_EVERY_S = 5.0


class Lease:
    """Says "alive" every `leases.RENEW_INTERVAL_S`; gateways put back what a worker held that does not."""

    def __init__(self, redis: Redis, worker: str, measure: Callable[[], Awaitable[None]]) -> None:
        """Build a lease.

        Args:
            redis: Where leases are; a client of its own, whose commands end before a lease does.
            worker: This worker's id.
            measure: Called now and then.
        """
        self._redis = redis
        self._worker = worker
        self._measure = measure
        self._silence = SilenceWatch()
        self._renew = redis.register_script(lua.script("renew"))
        #: Whether the last renewal was told to Redis.
        self.reachable = True

    async def take(self) -> None:
        """Take the lease, or renew it."""
        script_keys, arguments = leases.renew_call(self._worker)
        await self._renew(keys=script_keys, args=arguments)

    async def keep(self) -> None:
        """Renew it until cancelled."""
        while True:
            await asyncio.sleep(leases.RENEW_INTERVAL_S)
            asked_at = time.monotonic()
            try:
                await self.take()
                self._silence.answered()
                self.reachable = True
            except (RedisError, OSError) as err:
                if self.reachable:
                    log.warning("redis_lost", error=str(err))
                self.reachable = False
                self._silence.failed(err, asked_at)

    async def measure(self) -> None:
        """Measure now and then until cancelled; by itself, since the lease does not wait for it."""
        while True:
            with suppress(RedisError, OSError):  # which the lease tells
                await self._measure()
            await asyncio.sleep(_MEASURE_EVERY_S)

    async def give_back(self) -> None:
        """End it, unless messages are still unacknowledged: then it just ends."""
        try:
            if not await self._redis.hlen(keys.unacked(self._worker)):
                await self._redis.zrem(keys.LEASES, self._worker)
        except (RedisError, OSError) as err:
            log.warning("lease_not_returned", error=str(err))
