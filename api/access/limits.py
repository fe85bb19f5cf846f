"""Limits of tenants, kept in Redis for all gateways together: requests and tokens per interval, requests at a time.

An interval is a sliding window of the library `limits`, whose scripts decide in Redis and by its clock. A place of those at
a time is a lease (`shared/take_place.lua`), so that a gateway that dies takes none along. While Redis does not answer,
nothing is held back here: without it no request is answered anyway. No request waits for that longer than its deadline.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast
from uuid import uuid4

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.access.caller import Caller
from api.access.windows import Window
from shared import keys, lua
from shared.errors import DeadlineExceeded, RateLimited
from shared.logging import get_logger

log = get_logger("millrace.access")

#: How long a gateway may be silent before its places are free, and how often it speaks, in seconds.
LEASE_S, _RENEW_S = 15.0, 5.0
#: Longest that a request waits for Redis to say whether it may pass, in seconds: while Redis answers, and once it has not.
#: The first is cut short by the request's deadline, if not to less than the second: a busy server needs a moment.
_PATIENCE_S, _BLIND_PATIENCE_S = 5.0, 0.5
#: Connections of a gateway. Whoever finds none free waits for one: redis-py's own pool would refuse the hundred and first.
CONNECTIONS = 16
#: When to try again whom a place was refused: nobody knows how long others take.
_PLACE_RETRY_S = 1.0
#: No limit: for what has been used already.
_UNBOUNDED = 1 << 52

ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class Charge:
    """What one request costs its tenant."""

    caller: Caller
    limits: "TenantLimits"
    #: Name of its place among those at a time; empty for none.
    place: str = ""
    requests: Window | None = None
    tokens: Window | None = None
    #: Tokens that were taken before the real number was known, and when, by the monotonic clock.
    estimate: int = 0
    taken_at: float = 0.0
    #: The request's deadline, by the monotonic clock.
    deadline: float = math.inf
    #: How long it waited to be let in, in seconds.
    waited_s: float = 0.0

    async def take_tokens(self, estimate: int) -> None:
        """Take about as many tokens as the request will cost; one that costs more than a whole window takes that.

        Raises:
            RateLimited: There are not so many left.
            DeadlineExceeded: Redis had not said so by the request's deadline.
        """
        if (item := self.caller.limits.tokens) is None:
            return
        estimate = max(1, min(estimate, item.amount))
        is_let_in, self.tokens = await self.limits.hit(self, "tokens", item, estimate)
        if not is_let_in and self.tokens is not None:
            raise _exceeded(self.tokens, "tokens", item, estimate)
        self.estimate, self.taken_at = estimate, time.monotonic()

    def correct_tokens(self, real: int) -> None:
        """Make the tokens that were taken those that were used; in the background."""
        item, correction = self.caller.limits.tokens, real - self.estimate
        self.estimate = real
        if item is None or not correction:
            return
        # What was taken in a window that is over is not given back in another.
        if correction > 0 or time.monotonic() < self.taken_at + item.get_expiry():
            self.limits.in_background(self.limits.spend(self.caller, "tokens", item, correction))

    def settle(self, real: int | None, published: int) -> None:
        """The request has ended: it has cost this.

        Args:
            real: Tokens that the model read for it; None if it failed.
            published: About how many workers were given to read and have not refused; they may have read them.
        """
        self.correct_tokens(min(self.estimate, published) if real is None else real)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the answer says of limits: OpenAI's names, and those of the IETF's draft for requests."""
        found: dict[str, str] = {}
        for kind, window in (("requests", self.requests), ("tokens", self.tokens)):
            if window is not None:
                found |= {
                    f"x-ratelimit-limit-{kind}": str(window.limit),
                    f"x-ratelimit-remaining-{kind}": str(window.remaining),
                    f"x-ratelimit-reset-{kind}": f"{window.reset_s}s",
                }
        if (tightest := self.requests or self.tokens) is not None:
            found |= {
                "ratelimit-limit": str(tightest.limit),
                "ratelimit-remaining": str(tightest.remaining),
                "ratelimit-reset": str(tightest.reset_s),
            }
        return [(name.encode(), value.encode()) for name, value in found.items()]


@dataclass(slots=True)
class _State:
    """What this process holds."""

    #: Places by tenant.
    places: dict[str, set[str]] = field(default_factory=dict)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    #: Whether Redis did not answer when it was last asked.
    is_blind: bool = False


class TenantLimits:
    """Holds requests back that are too many."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=keys.LIMITS_PREFIX,
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # it is passed through to redis-py
        )
        self._take_place = redis.register_script(lua.script("take_place"))
        self._keep_places = redis.register_script(lua.script("keep_places"))
        self._state = _State()

    async def admit(self, charge: Charge) -> None:
        """Let a request in; its end has to be told to `release`, whatever comes of this.

        Raises:
            RateLimited: The tenant has as many as it may.
            DeadlineExceeded: Redis had not said whether by the request's deadline.
        """
        limits, began = charge.caller.limits, time.monotonic()
        if limits.concurrency is not None:
            charge.place = await self._place(charge, limits.concurrency)
        if limits.requests is not None:
            is_let_in, charge.requests = await self.hit(charge, "requests", limits.requests, 1)
            if not is_let_in and charge.requests is not None:
                raise _exceeded(charge.requests, "requests", limits.requests, 1)
        # Who goes on with the request says how long it has from there on, if it has a deadline.
        charge.waited_s, charge.deadline = time.monotonic() - began, math.inf

    def release(self, charge: Charge) -> None:
        """A request has ended: its place is free."""
        tenant = charge.caller.tenant or ""
        if charge.place and charge.place in self._state.places.get(tenant, ()):
            self._state.places[tenant].discard(charge.place)
            self.in_background(self._free(tenant, charge.place))

    async def hit(self, charge: Charge, kind: str, item: RateLimitItem, cost: int) -> tuple[bool, Window | None]:
        """Take something of a window.

        Returns:
            Whether it was there, and the window afterwards; None while Redis does not answer.

        Raises:
            DeadlineExceeded: It had not by the request's deadline.
        """
        key, length_s = item.key_for(kind, charge.caller.tenant or ""), item.get_expiry()

        async def ask() -> tuple[bool, Window]:
            was_there = await self._storage.acquire_sliding_window_entry(key, item.amount, length_s, cost)
            return was_there, Window(item.amount, length_s, *await self._storage.get_sliding_window(key, length_s))

        return await self._asked(ask, (True, None), charge.deadline)

    async def spend(self, caller: Caller, kind: str, item: RateLimitItem, amount: int) -> None:
        """Take from a window what has been used, though it be more than is there; or give back, if it is negative."""
        key = item.key_for(kind, caller.tenant or "")

        async def ask() -> bool:
            return await self._storage.acquire_sliding_window_entry(key, _UNBOUNDED, item.get_expiry(), amount)

        await self._asked(ask, False)

    async def renew(self) -> None:
        """Keep the places of requests under way, until cancelled."""
        while True:
            await asyncio.sleep(_RENEW_S)
            for tenant, places in list(self._state.places.items()):
                if not places:
                    del self._state.places[tenant]
                    continue
                await self._keep(tenant, list(places))

    def in_background(self, work: Awaitable[None]) -> None:
        """Do something whose end nobody waits for."""
        task = asyncio.ensure_future(work)
        self._state.background.add(task)
        task.add_done_callback(self._state.background.discard)

    async def _place(self, charge: Charge, most: int) -> str:
        """A place among those at a time; empty while Redis does not answer.

        Raises:
            RateLimited: All are taken.
            DeadlineExceeded: Redis had not answered by the request's deadline.
        """
        tenant, place = charge.caller.tenant or "", uuid4().hex
        args: list[str | int] = [most, place, int(LEASE_S * 1000)]

        async def ask() -> int | None:
            return cast("int", await self._take_place(keys=[keys.places(tenant)], args=args))

        taken = await self._asked(ask, None, charge.deadline)
        if taken is None:
            return ""
        if not taken:
            raise RateLimited(
                f"{most} requests of tenant {tenant!r} are under way, which is its most at a time; send fewer at once",
                retry_after_s=_PLACE_RETRY_S,
            )
        self._state.places.setdefault(tenant, set()).add(place)
        return place

    async def _keep(self, tenant: str, places: list[str]) -> None:
        async def ask() -> None:
            await self._keep_places(keys=[keys.places(tenant)], args=[int(LEASE_S * 1000), *places])

        await self._asked(ask, None)

    async def _free(self, tenant: str, place: str) -> None:
        async def ask() -> int:
            return await self._redis.zrem(keys.places(tenant), place)

        await self._asked(ask, 0)

    async def _asked(
        self, ask: Callable[[], Awaitable[ValueT]], otherwise: ValueT, deadline: float = math.inf
    ) -> ValueT:
        """What Redis says, or something else while it says nothing.

        Raises:
            DeadlineExceeded: It had not by then, which alone does not mean that it never will: nobody is let in so.
        """
        left_s = deadline - time.monotonic()
        patience_s = _BLIND_PATIENCE_S if self._state.is_blind else min(_PATIENCE_S, max(_BLIND_PATIENCE_S, left_s))
        try:
            async with asyncio.timeout(patience_s):
                answer = await ask()
        except (RedisError, OSError) as err:  # TimeoutError is one
            if isinstance(err, TimeoutError) and left_s <= patience_s:
                raise DeadlineExceeded(
                    "Redis did not say before the deadline whether the tenant's limits let the request in"
                ) from None
            if not self._state.is_blind:
                log.warning("limits_unreachable", error=type(err).__name__)
            self._state.is_blind = True
            return otherwise
        self._state.is_blind = False
        return answer


def _exceeded(window: Window, what: str, item: RateLimitItem, cost: int) -> RateLimited:
    wait_s = window.wait_s(cost)
    return RateLimited(
        f"the limit of {item.amount} {what} per {_interval(item)} is used up; {window.remaining} are left and this costs "
        f"{cost}: try again in {max(1, round(wait_s + 0.5))} s",
        retry_after_s=wait_s + 0.5,
    )


def _interval(item: RateLimitItem) -> str:
    unit = item.GRANULARITY.name
    return unit if item.multiples == 1 else f"{item.multiples} {unit}s"
