"""What `/metrics` says of Redis: lengths, memory, whether it can write, also when it may not be asked for all of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from redis import Redis

from api.core import Core
from api.redis_gauges import measure_redis
from api.settings import ApiSettings
from shared import keys
from shared.metrics import Metrics, Owner
from shared.queues import Lane, queue_name
from shared.redis_address import connect_aio
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until

MODEL = "org/model"


def _measured(url: str, metrics: Metrics | None = None) -> Callable[..., float]:
    """A look at the gauges, after they have been measured once."""
    metrics = metrics or Metrics(Owner.GATEWAY)

    async def measure() -> None:
        redis = connect_aio(url, socket_timeout=5.0)
        await measure_redis(redis, metrics, [MODEL])
        await redis.aclose()

    asyncio.run(measure())
    return lambda name, **labels: _value(metrics, name, labels)


def _value(metrics: Metrics, name: str, labels: dict[str, str]) -> float:
    families = text_string_to_metric_families(metrics.exposition().decode())
    (value,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value


def test_lengths_memory_and_the_store_are_told(own_valkey: ValkeyServer) -> None:
    # Given a server with a limit, two messages and something in the store
    with Redis.from_url(own_valkey.url()) as redis:
        redis.config_set("maxmemory", "100mb")
        redis.rpush(queue_name(MODEL, Lane.BULK), "a", "b")
        redis.set(keys.STORED_BYTES, 12_345)

    # When
    gauge = _measured(own_valkey.url())

    # Then
    assert gauge("millrace_queue_length", model=MODEL, lane="bulk") == 2
    assert gauge("millrace_queue_length", model=MODEL, lane="interactive") == 0
    assert gauge("millrace_stored_bytes") == 12_345
    assert 100_000 < gauge("millrace_redis_used_bytes") < gauge("millrace_redis_limit_bytes") == 100 << 20
    assert gauge("millrace_redis_evicted_keys") == 0
    assert gauge("millrace_redis_persisting") == 1


def test_without_a_limit_the_machines_memory_is_the_limit(redis_url: str) -> None:
    assert _measured(redis_url)("millrace_redis_limit_bytes") > 1 << 28


def test_a_full_disk_shows_until_there_is_room_again(own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url()) as redis:
        redis.set("a", "b")
        own_valkey.fill_disk()
        redis.set("c", "d" * 4096)  # acknowledged: it is written a moment later
        wait_until(lambda: not own_valkey.can_write(), what="the write to fail")

        assert _measured(own_valkey.url())("millrace_redis_persisting") == 0
        own_valkey.free_disk()
        wait_until(own_valkey.can_write, what="the write to work")
        assert _measured(own_valkey.url())("millrace_redis_persisting") == 1


def test_who_may_not_ask_for_all_still_learns_the_lengths(tmp_path: Path) -> None:
    with running_valkey(tmp_path, user="gateway", password="secret") as valkey, Redis.from_url(valkey.url()) as redis:
        redis.rpush(queue_name(MODEL, Lane.BULK), "a")
        redis.execute_command("ACL", "SETUSER", "gateway", "-info")

        gauge = _measured(valkey.url())

        assert gauge("millrace_queue_length", model=MODEL, lane="bulk") == 1


def test_while_redis_is_away_the_last_values_stand_and_it_is_said(own_valkey: ValkeyServer) -> None:
    # Given a gateway's core that has never reached Redis
    settings = ApiSettings(redis_url=SecretStr(own_valkey.url()), model=MODEL)
    metrics = Metrics(Owner.GATEWAY)
    core = Core(settings, metrics, name="gw", max_pending_items=1)

    def is_known() -> bool:
        return core.fleet.has_counts and core.fleet.reachable

    async def look() -> tuple[float, float]:
        before = _value(metrics, "millrace_redis_reachable", {})
        async with core.running():
            await asyncio.to_thread(wait_until, is_known, what="the counts to be read")
            return before, _value(metrics, "millrace_redis_reachable", {})

    # Then nothing is claimed that is not known
    assert str(_value(metrics, "millrace_dead_letters", {})) == "nan"
    assert str(_value(metrics, "millrace_redis_persisting", {})) == "nan"

    # When it does, Then it is
    assert asyncio.run(look()) == (0.0, 1.0)
    assert _value(metrics, "millrace_dead_letters", {}) == 0
    _measured(own_valkey.url(), metrics)
    own_valkey.stop()
    gauge = _measured(own_valkey.url(), metrics)
    assert gauge("millrace_redis_used_bytes") > 0


@pytest.mark.parametrize("given", [b"", b"3"])
def test_dead_letters_are_counted_by_redis_for_all_gateways(redis_url: str, redis: Redis, given: bytes) -> None:
    if given:
        redis.set(keys.DEAD_LETTERS_EVER, given)
    metrics = Metrics(Owner.GATEWAY)
    core = Core(ApiSettings(redis_url=SecretStr(redis_url), model=MODEL), metrics, name="gw", max_pending_items=1)

    async def look() -> None:
        async with core.running():
            await asyncio.to_thread(wait_until, lambda: core.fleet.has_counts, what="the counts to be read")

    asyncio.run(look())

    assert _value(metrics, "millrace_dead_letters", {}) == int(given or 0)
