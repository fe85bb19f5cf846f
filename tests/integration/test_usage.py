"""Usage of tenants, added up on a real server."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from api.access.usage import Usage, Used
from shared import keys
from shared.metrics import Metrics, Owner
from tests.helpers.valkey import ValkeyServer

MODEL = "org/model:v1"


def _with_usage(url: str, use: Callable[[Usage], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncRedis.from_url(url, socket_timeout=1, socket_connect_timeout=0.2) as redis:
            await use(Usage(redis, Metrics(Owner.GATEWAY), ttl_s=100_000))

    asyncio.run(run())


def test_what_several_processes_count_is_one_sum_that_ends_some_day(redis_url: str, redis: Redis) -> None:
    today = datetime.now(UTC).date()

    async def use(usage: Usage) -> None:
        usage.count("a", MODEL, requests=1, items=3, tokens=10)
        usage.count("a", MODEL, requests=1, items=2, tokens=5)
        usage.count("a", "other", requests=1, items=1, tokens=1)
        usage.count("b", MODEL, requests=1, items=1, tokens=100)
        usage.count(None, MODEL, requests=1, items=1, tokens=1000)
        await usage.flush()
        await usage.flush()

    async def ask(usage: Usage) -> None:
        usage.count("a", MODEL, requests=0, items=1, tokens=0)
        await usage.flush()
        days = [today, today - timedelta(days=1)]
        assert await usage.of("a", days) == [Used(today, MODEL, 2, 6, 15), Used(today, "other", 1, 1, 1)]
        assert await usage.of("b", days) == [Used(today, MODEL, 1, 1, 100)]
        assert await usage.of("c", days) == []

    _with_usage(redis_url, use)
    _with_usage(redis_url, ask)
    assert 99_000 < redis.ttl(keys.usage("a", today.isoformat())) <= 100_000


def test_what_is_counted_while_redis_is_away_is_added_up_when_it_is_back(own_valkey: ValkeyServer) -> None:
    async def use(usage: Usage) -> None:
        own_valkey.stop()
        usage.count("a", MODEL, requests=1, items=1, tokens=1)
        await usage.flush()
        usage.count("a", MODEL, requests=1, items=1, tokens=1)
        own_valkey.start()
        await usage.flush()
        (used,) = await usage.of("a", [datetime.now(UTC).date()])
        assert (used.requests, used.items, used.tokens) == (2, 2, 2)

    _with_usage(own_valkey.url(), use)


def test_what_redis_adds_up_after_nobody_waits_for_it_any_more_counts_once(own_valkey: ValkeyServer) -> None:
    async def use(usage: Usage) -> None:
        usage.count("a", MODEL, requests=1, items=1, tokens=7)
        with own_valkey.standing_still():
            await usage.flush()
            usage.count("a", MODEL, requests=1, items=1, tokens=5)
        await usage.flush()
        (used,) = await usage.of("a", [datetime.now(UTC).date()])
        assert (used.requests, used.items, used.tokens) == (2, 2, 12)

    _with_usage(own_valkey.url(), use)


def test_what_was_being_added_up_when_the_process_stops_is_not_lost(own_valkey: ValkeyServer) -> None:
    async def use(usage: Usage) -> None:
        usage.count("a", MODEL, requests=1, items=1, tokens=7)
        with own_valkey.standing_still():
            adding = asyncio.ensure_future(usage.flush())
            await asyncio.sleep(0.2)
            adding.cancel()
            await asyncio.wait([adding])
        await usage.flush()
        (used,) = await usage.of("a", [datetime.now(UTC).date()])
        assert (used.requests, used.items, used.tokens) == (1, 1, 7)

    _with_usage(own_valkey.url(), use)
