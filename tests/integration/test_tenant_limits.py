"""Limits of tenants: four real gateway processes on one real server count together."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from limits import parse
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from api.access import limits as limits_module
from api.access.caller import Caller, Limits
from api.access.limits import Charge, TenantLimits
from shared import keys
from shared.access import UNLIMITED
from shared.errors import RateLimited
from shared.jobs import estimated_tokens
from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.tcp_proxy import running_proxy
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

GATEWAYS = 4
LIMIT = 500
PER_WINDOW = 40
#: There are no workers: what is let in is given up soon, with 504. So is what waits half a second to be let in.
LET_IN, REFUSED = 504, 429
TIMEOUT = {"x-request-timeout": "0.05"}
BODY = {"inputs": "a mill"}


@pytest.fixture(scope="module")
def gateways(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[GatewayProcess]]:
    """Four gateways of one deployment."""
    folder = tmp_path_factory.mktemp("limits")
    path = write_keys_file(
        folder / "keys.yaml",
        tenant("counted", "counted-key", "its-other-key", limits={"requests": f"{LIMIT}/hour"}),
        tenant("crowded", "crowded-key", limits={"requests": "50/hour", "tokens": "1000000/hour", "concurrency": 400}),
        tenant("sliding", "sliding-key", limits={"requests": f"{PER_WINDOW} per 2 seconds"}),
        tenant("weighed", "weighed-key", limits={"tokens": "3000/hour"}),
        tenant("few", "few-key", limits={"concurrency": 3}),
        tenant("free", "free-key"),
    )
    settings = {"MILLRACE_KEYS_FILE": str(path), "MILLRACE_ACCESS_LOG": "0"}
    with ExitStack() as stack:
        yield [
            stack.enter_context(gateway_process(valkey_url, folder, settings, f"gateway-{number}"))
            for number in range(GATEWAYS)
        ]


async def _ask_all(gateways: Sequence[GatewayProcess], key: str, count: int, **request: Any) -> list[httpx.Response]:
    """Send requests to the gateways in turn, forty at a time."""
    slots = asyncio.Semaphore(40)
    async with httpx.AsyncClient(
        headers={"authorization": f"Bearer {key}", **TIMEOUT}, trust_env=False, timeout=30
    ) as client:

        async def ask(number: int) -> httpx.Response:
            async with slots:
                url = f"{gateways[number % len(gateways)].url}/embed"
                return await client.post(url, json=BODY, **request)

        return await asyncio.gather(*(ask(number) for number in range(count)))


def test_four_gateways_let_no_more_than_the_limit_in(redis_url: str, gateways: Sequence[GatewayProcess]) -> None:
    # When the tenant sends twice its limit, with both of its keys
    async def ask() -> list[httpx.Response]:
        answers = await asyncio.gather(
            _ask_all(gateways, "counted-key", LIMIT), _ask_all(gateways, "its-other-key", LIMIT)
        )
        return [answer for some in answers for answer in some]

    statuses = Counter(answer.status_code for answer in asyncio.run(ask()))

    # Then what is let in is the limit, within 2 %
    assert set(statuses) == {LET_IN, REFUSED}
    assert abs(statuses[LET_IN] - LIMIT) <= 0.02 * LIMIT


def test_a_crowd_at_one_gateway_lets_no_more_in(redis_url: str, gateways: Sequence[GatewayProcess]) -> None:
    """More requests at a time than a client of Redis has connections."""

    async def ask() -> list[int]:
        connections = httpx.Limits(max_connections=400)
        headers = {"authorization": "Bearer crowded-key", "x-request-timeout": "5"}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=60, limits=connections) as client:
            asked = (client.post(f"{gateways[0].url}/embed", json=BODY) for _ in range(400))
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert Counter(asyncio.run(ask())) == {LET_IN: 50, REFUSED: 350}


def test_the_limit_holds_over_several_windows(redis_url: str, gateways: Sequence[GatewayProcess]) -> None:
    """40 per 2 seconds, asked for as fast as four gateways answer: 20 a second once the first window is over."""

    async def ask() -> tuple[int, float]:
        started = time.monotonic()

        async def keep_asking(client: httpx.AsyncClient, gateway: GatewayProcess) -> int:
            let_in = 0
            while time.monotonic() < started + 9:
                let_in += (await client.post(f"{gateway.url}/embed", json=BODY)).status_code == LET_IN
            return let_in

        headers = {"authorization": "Bearer sliding-key", **TIMEOUT}
        async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as client:
            counts = await asyncio.gather(*(keep_asking(client, gateway) for gateway in gateways for _ in range(5)))
        return sum(counts), time.monotonic() - started

    let_in, seconds = asyncio.run(ask())

    # The first window is let in at once, and from then on as much as leaves the window.
    most = PER_WINDOW * seconds / 2
    assert let_in <= 1.02 * most + 1
    assert let_in >= 0.9 * most  # the last requests are refused a moment before the next could be


def test_a_refusal_says_what_is_used_up_and_when_to_come_back(
    redis_url: str, gateways: Sequence[GatewayProcess]
) -> None:
    async def ask() -> list[httpx.Response]:
        return await _ask_all(gateways[:1], "counted-key", LIMIT + 1)

    answers = asyncio.run(ask())
    refused = next(answer for answer in answers if answer.status_code == REFUSED)
    let_in = next(answer for answer in answers if answer.status_code == LET_IN)

    assert f"the limit of {LIMIT} requests per hour is used up; 0 are left and this costs 1" in refused.json()["error"]
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert 3_500 < int(refused.headers["retry-after"]) < 3_700
    assert refused.headers["x-should-retry"] == "true"
    assert refused.headers["ratelimit-limit"] == refused.headers["x-ratelimit-limit-requests"] == str(LIMIT)
    assert refused.headers["ratelimit-remaining"] == refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 7_100 < int(refused.headers["ratelimit-reset"]) <= 7_200
    assert refused.headers["x-ratelimit-reset-requests"] == f"{refused.headers['ratelimit-reset']}s"
    assert 0 <= int(let_in.headers["x-ratelimit-remaining-requests"]) < LIMIT


def test_tokens_are_held_back_by_their_estimate_and_what_failed_costs_none(
    redis_url: str, gateways: Sequence[GatewayProcess]
) -> None:
    # Given requests of some hundred tokens each, of which no worker answers any
    body = {"inputs": ["a mill " * 40] * 10}
    fit = 3000 // estimated_tokens(2800, 10)

    def post(**more: str) -> httpx.Response:
        with gateways[0].client("weighed-key") as client:
            return client.post("/embed", json=body, headers={**TIMEOUT, **more})

    # When each is given up before the next, then none costs anything
    assert [post().status_code for _ in range(6)] == [LET_IN] * 6

    # When they come together, then as many are let in as fit
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(headers={"authorization": "Bearer weighed-key"}, trust_env=False) as client:
            headers = {"x-request-timeout": "2"}
            asked = (
                client.post(f"{gateway.url}/embed", json=body, headers=headers, timeout=30)
                for gateway in gateways
                for _ in range(3)
            )
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {LET_IN, REFUSED}
    assert statuses[LET_IN] == fit
    refused = next(answer for answer in answers if answer.status_code == REFUSED)
    assert "tokens per hour is used up" in refused.json()["error"]
    assert refused.headers["x-ratelimit-limit-tokens"] == refused.headers["ratelimit-limit"] == "3000"


def test_so_many_requests_at_a_time_and_the_next_when_one_has_ended(
    redis_url: str, redis: Redis, gateways: Sequence[GatewayProcess]
) -> None:
    async def ask() -> list[int]:
        async with httpx.AsyncClient(headers={"authorization": "Bearer few-key"}, trust_env=False) as client:
            asked = (
                client.post(f"{gateway.url}/embed", json=BODY, headers={"x-request-timeout": "2"}, timeout=30)
                for gateway in gateways
                for _ in range(2)
            )
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    for _ in range(2):
        assert Counter(asyncio.run(ask())) == {LET_IN: 3, REFUSED: 5}
    with gateways[0].client("few-key") as client:
        assert client.get("/v1/models").status_code == 200


def test_a_tenant_without_limits_is_told_none(gateways: Sequence[GatewayProcess]) -> None:
    with gateways[0].client("free-key") as client:
        answer = client.post("/embed", json=BODY, headers=TIMEOUT)

    assert answer.status_code == LET_IN
    assert not [name for name in answer.headers if "ratelimit" in name]


def _caller(**limits: Any) -> Caller:
    return Caller("somebody", "key", UNLIMITED, Limits(**limits))


def _with_limits(url: str, use: Callable[[TenantLimits], Awaitable[None]]) -> None:
    async def run() -> None:
        async with AsyncRedis.from_url(url, socket_timeout=2, socket_connect_timeout=0.2) as redis:
            await use(TenantLimits(redis))

    asyncio.run(run())


def test_real_usage_takes_the_place_of_the_estimate(redis_url: str) -> None:
    caller = _caller(tokens=parse("1000/hour"))

    async def use(limits: TenantLimits) -> None:
        async def left() -> int:
            await asyncio.gather(*limits._state.background)
            probe = Charge(caller, limits)
            await probe.take_tokens(1)
            assert probe.tokens is not None
            probe.correct_tokens(0)
            return probe.tokens.remaining + 1

        less, more, largest = Charge(caller, limits), Charge(caller, limits), Charge(caller, limits)
        await less.take_tokens(500)
        less.correct_tokens(100)
        assert await left() == 900
        await more.take_tokens(100)
        more.correct_tokens(300)
        assert await left() == 600
        with pytest.raises(RateLimited, match="1000 tokens per hour is used up; 600 are left and this costs 1000"):
            await largest.take_tokens(5000)

    _with_limits(redis_url, use)


def test_a_request_that_costs_more_than_a_whole_window_takes_a_whole_one(redis_url: str) -> None:
    async def use(limits: TenantLimits) -> None:
        charge = Charge(_caller(tokens=parse("1000/hour")), limits)
        await charge.take_tokens(5000)
        assert charge.tokens is not None
        assert charge.tokens.remaining == 0

    _with_limits(redis_url, use)


def test_the_places_of_a_gateway_that_died_are_free_when_their_lease_ends(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "LEASE_S", 0.5)
    caller = _caller(concurrency=1)

    async def use(limits: TenantLimits) -> None:
        await limits.admit(Charge(caller, limits))  # which is never released
        with pytest.raises(RateLimited, match="1 requests of tenant 'somebody' are under way"):
            await limits.admit(Charge(caller, limits))
        await asyncio.to_thread(wait_until, lambda: not redis.exists(keys.places("somebody")), what="its end")
        await limits.admit(Charge(caller, limits))

    _with_limits(redis_url, use)


def test_the_places_of_long_requests_are_kept(redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "LEASE_S", 1.0)
    monkeypatch.setattr(limits_module, "_RENEW_S", 0.05)
    caller = _caller(concurrency=1)

    async def use(limits: TenantLimits) -> None:
        held = Charge(caller, limits)
        await limits.admit(held)
        ((_, first_end),) = redis.zrange(keys.places("somebody"), 0, -1, withscores=True)
        renewing = asyncio.create_task(limits.renew())
        await asyncio.to_thread(
            wait_until,
            lambda: redis.zscore(keys.places("somebody"), held.place) > first_end + 2_000,
            what="the place to be kept for longer than its lease",
        )
        limits.release(held)
        await limits._state.background.pop()
        renewing.cancel()
        assert redis.zcard(keys.places("somebody")) == 0

    _with_limits(redis_url, use)


def test_nothing_is_held_back_while_redis_is_away(own_valkey: ValkeyServer) -> None:
    caller = _caller(requests=parse("1/hour"), tokens=parse("1/hour"), concurrency=1)

    async def use(limits: TenantLimits) -> None:
        own_valkey.stop()
        for _ in range(3):
            charge = Charge(caller, limits)
            await limits.admit(charge)
            await charge.take_tokens(10)
            limits.release(charge)
        own_valkey.start()
        await limits.admit(Charge(caller, limits))
        with pytest.raises(RateLimited):
            await limits.admit(Charge(caller, limits))

    _with_limits(own_valkey.url(), use)


def test_a_request_of_a_tenant_with_limits_outlives_its_deadline_no_more_than_others_while_redis_is_silent(
    own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    everything = {"requests": "1000/hour", "tokens": "100000/hour", "concurrency": 10}
    path = write_keys_file(
        tmp_path / "keys.yaml", tenant("held", "held-key", limits=everything), tenant("free", "free-key")
    )

    def took_s(gateway: GatewayProcess, key: str) -> float:
        with gateway.client(key) as client:
            began = time.monotonic()
            answer = client.post("/embed", json=BODY, headers={"x-request-timeout": "1"})
            assert answer.status_code in (503, 504)
            return time.monotonic() - began

    with (
        running_proxy(own_valkey.port) as proxy,
        gateway_process(f"redis://127.0.0.1:{proxy.port}/0", tmp_path, {"MILLRACE_KEYS_FILE": str(path)}) as gateway,
    ):
        took_s(gateway, "held-key")
        proxy.silence()

        times_s = [took_s(gateway, key) for key in ("free-key", "held-key", "held-key", "held-key")]

        proxy.mend()
        assert max(times_s) < 2, times_s
