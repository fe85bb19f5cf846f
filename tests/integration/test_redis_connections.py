"""Many who ask Redis by routes beside the one that counts, and a Redis that says nothing."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from shared import keys
from shared.model_card import WorkerCard
from shared.model_config import DEFAULT_MODEL
from tests.helpers.fleets import card
from tests.helpers.gateway_process import gateway_process
from tests.helpers.gateways import BulkGateway
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

#: More than redis-py has connections for.
CROWD = 200


@pytest.fixture
def gateway(own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[BulkGateway]:
    """A gateway without workers."""
    gateway = BulkGateway(own_valkey.url(), tmp_path / "store", request_timeout_s=3.0)
    gateway.start()
    yield gateway
    gateway.stop()


def test_a_crowd_that_polls_jobs_waits_for_a_connection_and_takes_none_of_those_that_requests_need(
    gateway: BulkGateway,
) -> None:
    async def poll() -> tuple[set[int], bool]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        base = f"http://127.0.0.1:{gateway.port}"
        async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False, limits=limits) as client:
            reachable = True
            statuses: set[int] = set()
            for _ in range(3):
                polls = asyncio.gather(*[client.get("/v1/jobs/job_none") for _ in range(CROWD)])
                while not polls.done():
                    await asyncio.sleep(0.05)
                    reachable &= gateway.core.fleet.reachable
                statuses |= {answer.status_code for answer in await polls}
            return statuses, reachable

    assert asyncio.run(poll()) == ({404}, True)


def _serve_on_paper(redis: Redis) -> None:
    """Have a worker of the default model that says that it is there, and does nothing."""
    model = card(DEFAULT_MODEL.name, kinds=["dense"], dimensions=384)
    worker = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[model])
    redis.set(keys.worker_card("w1"), worker.model_dump_json())
    redis.zadd(keys.LEASES, {"w1": 2e15})


def test_what_falls_due_while_redis_says_nothing_is_told_that_it_is_away(
    own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    # Given a service that is ready
    with Redis.from_url(own_valkey.url()) as redis, gateway_process(own_valkey.url(), tmp_path, {}) as gateway:
        _serve_on_paper(redis)
        wait_until(lambda: gateway.answers("/ready"), what="the gateway to be ready")

        # When Redis takes commands and answers none
        redis.execute_command("CLIENT", "PAUSE", "6000", "ALL")
        started = time.monotonic()
        answer = httpx.post(
            f"{gateway.url}/v1/embeddings",
            json={"input": "a mill"},
            headers={"x-request-timeout": "3"},
            timeout=10,
            trust_env=False,
        )

        # Then
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "retry-after" in answer.headers
        assert time.monotonic() - started < 4
