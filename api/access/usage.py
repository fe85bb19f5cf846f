"""What tenants have used: counted in the process, added up in Redis each second by tenant, day and model.

A process that is killed takes at most its last second along; one that stops adds up what it has.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import keys, lua
from shared.logging import get_logger
from shared.metrics import Metrics

log = get_logger("millrace.access")

#: How often it is added up, in seconds.
_FLUSH_S = 1.0
#: How long Redis knows what it has added: longer than anybody sends the same again, in seconds.
_MARKED_S = 3600

#: What is counted of a model.
REQUESTS, ITEMS, TOKENS = "requests", "items", "tokens"


@dataclass(frozen=True, slots=True)
class Used:
    """What a tenant has used of a model on a day, by UTC."""

    day: date
    model: str
    #: Answered requests, and answered lines of batches.
    requests: int
    #: Texts and documents, those of jobs too.
    items: int
    tokens: int


class Usage:
    """Counts it."""

    def __init__(self, redis: Redis, metrics: Metrics, *, ttl_s: float) -> None:
        """Count from nothing.

        Args:
            redis: Where it is added up.
            metrics: Count it too.
            ttl_s: How long a day is kept, in seconds.
        """
        self._redis = redis
        self._metrics = metrics
        self._ttl_s = int(ttl_s)
        self._add = redis.register_script(lua.script("add_usage"))
        self._counted: Counter[tuple[str, str, str]] = Counter()
        #: What has been sent, with the mark by which Redis knows it, until Redis has said that it is added.
        self._unconfirmed: tuple[str, Counter[tuple[str, str, str]]] | None = None

    def count(self, tenant: str | None, model: str, *, requests: int, items: int, tokens: int) -> None:
        """Count what a tenant has used; nothing where there are no tenants.

        Args:
            tenant: Who.
            model: Its own name.
            requests: Requests that were answered.
            items: Texts and documents of theirs.
            tokens: What the model read.
        """
        if tenant is None:
            return
        day = datetime.now(UTC).date().isoformat()
        for what, number in ((REQUESTS, requests), (ITEMS, items), (TOKENS, tokens)):
            if number:
                self._counted[keys.usage(tenant, day), model, what] += number
                self._metrics.counter(f"millrace_tenant_{what}_total", tenant=tenant, model=model).inc(number)

    async def run(self) -> None:
        """Add up until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Add up what has been counted; while Redis is away it is kept."""
        while self._unconfirmed is not None or self._counted:
            if self._unconfirmed is None:
                self._unconfirmed = keys.usage_mark(uuid4().hex), self._counted
                self._counted = Counter()
            mark, counted = self._unconfirmed
            fields: list[str | int] = []
            for (_, model, what), number in counted.items():
                fields += [f"{model} {what}", number]
            try:
                await self._add(keys=[mark, *(key for key, *_ in counted)], args=[_MARKED_S, self._ttl_s, *fields])
            except (RedisError, OSError) as err:
                log.warning("usage_not_added", error=type(err).__name__)
                return
            self._unconfirmed = None

    async def of(self, tenant: str, days: Iterable[date]) -> list[Used]:
        """What a tenant has used on some days, in their order, by model."""
        wanted = list(days)
        async with self._redis.pipeline(transaction=False) as pipe:
            for day in wanted:
                pipe.hgetall(keys.usage(tenant, day.isoformat()))
            found = await pipe.execute()
        used = []
        for day, fields in zip(wanted, found, strict=True):
            numbers = {tuple(name.decode().split(" ")): int(value) for name, value in fields.items()}
            for model in sorted({model for model, _ in numbers}):
                counts = (numbers.get((model, what), 0) for what in (REQUESTS, ITEMS, TOKENS))
                used.append(Used(day, model, *counts))
        return used
