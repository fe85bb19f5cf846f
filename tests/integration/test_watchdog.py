"""The watchdog on a real server: what it says of a worker."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until
from workers import watchdog
from workers.watchdog import Activity, Watchdog

QUEUE = "millrace.m.interactive"
IDLE = Activity(moves=0, held=0, queues=(QUEUE,))
WEDGED_AFTER_S = 0.5


class Worker:
    """Says what a test wants."""

    def __init__(self, redis: Redis) -> None:
        self.activity = IDLE
        self.watchdog = Watchdog(redis, lambda: self.activity, wedged_after_s=WEDGED_AFTER_S)


@pytest.fixture
def worker(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    yield from _started(redis, monkeypatch)


def _started(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(watchdog, "LOOK_EVERY_S", 0.05)
    worker = Worker(redis)
    worker.watchdog.start()
    yield worker
    worker.watchdog.stop()


def _assert_well(worker: Worker) -> None:
    end = time.monotonic() + 2 * WEDGED_AFTER_S
    while time.monotonic() < end:
        assert worker.watchdog.trouble() == ""
        time.sleep(0.02)


def test_a_deaf_worker_is_in_trouble_until_it_takes_something(worker: Worker, redis: Redis) -> None:
    redis.lpush(QUEUE, "m")
    wait_until(lambda: "1 messages queued" in worker.watchdog.trouble(), what="trouble")

    worker.activity = replace(IDLE, moves=1)
    wait_until(lambda: not worker.watchdog.trouble(), what="the end of it")


def test_a_worker_that_holds_tasks_and_does_not_move_is_in_trouble(worker: Worker) -> None:
    worker.activity = replace(IDLE, held=3)
    wait_until(lambda: "3 held" in worker.watchdog.trouble(), what="trouble")


def test_an_idle_worker_is_well(worker: Worker) -> None:
    _assert_well(worker)


def test_a_long_batch_is_no_trouble(worker: Worker) -> None:
    worker.activity = replace(IDLE, held=3, allowed_s=10)
    _assert_well(worker)


def test_an_engine_that_is_being_replaced_is_no_trouble(worker: Worker, redis: Redis) -> None:
    redis.lpush(QUEUE, "m")
    worker.activity = replace(IDLE, is_able=False)
    _assert_well(worker)


def test_a_redis_that_is_away_is_not_the_workers_trouble(
    own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Redis.from_url(own_valkey.url()) as client:
        client.lpush(QUEUE, "m")
        own_valkey.stop()
        for worker in _started(client, monkeypatch):
            worker.activity = replace(IDLE, held=1)
            _assert_well(worker)
