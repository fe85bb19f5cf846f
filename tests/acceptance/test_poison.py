"""One request kills whatever worker runs it: three die of it, no fourth, and those that were taken with it are answered."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from redis import Redis

from shared import keys
from shared.celery_message import decode_task
from shared.dead_letters import DeadLetter
from shared.jobs import EmbedRequest
from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until

#: The engine never ends this one, so that the test can kill the worker that runs it; nobody but the test knows of it.
POISON = "a text with sleep in it"
INNOCENTS = [f"an innocent sentence, number {n}" for n in range(30)]
DEATHS = 3


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path) as server:
        yield server


@pytest.fixture
def redis(valkey: ValkeyServer) -> Iterator[Redis]:
    with Redis.from_url(valkey.url()) as client:
        yield client


@contextmanager
def _serving(tmp_path: Path, valkey: ValkeyServer, tasks_in_flight: int) -> Iterator[Service]:
    service = Service(
        tmp_path,
        {
            "MILLRACE_REDIS_URL": valkey.url(),
            "MILLRACE_ENGINE": "tests.helpers.faulty_engine",
            "MILLRACE_TASKS_IN_FLIGHT_PER_WORKER": str(tasks_in_flight),
            # What hangs is left to the test.
            "MILLRACE_BATCHES_IN_FLIGHT": "1",
            "MILLRACE_ENGINE_PATIENCE_S": "100",
            "MILLRACE_WEDGED_AFTER_S": "100",
            "MILLRACE_DRAIN_S": "3",
        },
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Service]:
    """A service that makes a task of each request."""
    with _serving(tmp_path, valkey, 0) as service:
        yield service


@pytest.fixture
def gathering(tmp_path: Path, valkey: ValkeyServer) -> Iterator[Service]:
    """A service that makes one task of what comes while another is under way."""
    with _serving(tmp_path, valkey, 1) as service:
        yield service


class _Killer(threading.Thread):
    """Kills the worker that says that it runs a certain request of a task."""

    def __init__(self, service: Service, redis: Redis, tag: bytes, position: int = 0) -> None:
        super().__init__()
        self._service, self._redis, self._running = service, redis, _named(tag, position)
        self.kills = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            for key in self._redis.keys(keys.running("*")):
                if self._redis.get(key) == self._running:
                    self._kill(key)

    def _kill(self, running: bytes) -> None:
        worker = self._service.part("workers")
        self.kills += 1
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: not self._redis.exists(running), timeout_s=30, what="its death to be noticed")


def test_three_workers_die_of_a_poison_and_its_neighbours_are_answered(service: Service, redis: Redis) -> None:
    with service.client(timeout_s=200) as client, ThreadPoolExecutor(len(INNOCENTS) + 1) as pool:
        vectors = np.array(client.post("/embed", json={"inputs": INNOCENTS}).json())

        def embed(text: str) -> httpx.Response:
            headers = {"x-request-timeout": "180"}
            return client.post("/v1/embeddings", json={"input": text}, headers=headers)

        # Given a worker that has taken the poison, and after it 30 that are not begun
        poisoned = pool.submit(embed, POISON)
        wait_until(lambda: len(_held(redis)) == 1, what="the poison to be taken")
        ((tag, worker),) = _held(redis).items()
        assert _texts(redis, worker, tag) == [[POISON]]
        answers = [pool.submit(embed, text) for text in INNOCENTS]
        wait_until(lambda: len(_held(redis)) == 1 + len(INNOCENTS), what="the others to be taken")

        # When that worker dies, and each that runs the poison after it
        os.kill(service.part("workers").pid, signal.SIGKILL)
        killer = _Killer(service, redis, tag)
        killer.start()
        try:
            refused = poisoned.result()
            innocent = [answer.result() for answer in answers]
        finally:
            killer.ended.set()
            killer.join()

        # Then the poison has its answer, and the others their vectors
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "worker_lost")
        assert [answer.status_code for answer in innocent] == [200] * len(INNOCENTS)
        found = np.array([answer.json()["data"][0]["embedding"] for answer in innocent])
        np.testing.assert_allclose(found, vectors, atol=1e-5)

        # And three died, no fourth: the next request finds the last one's successor
        assert killer.kills == DEATHS - 1
        assert embed("another").status_code == 200
        last = service.part("workers")
        time.sleep(3)
        assert psutil.pid_exists(last.pid)
        assert redis.get(keys.LOST_WORKERS) == str(DEATHS).encode()

        # And the letter says which input it was
        (letter,) = [DeadLetter.model_validate_json(entry) for entry in redis.lrange(keys.DEAD_LETTERS, 0, -1)]
        assert (letter.task, letter.deaths) == (tag.decode(), DEATHS)
        assert [request.sha256 for request in letter.requests] == [[sha256(POISON.encode()).hexdigest()]]
        assert redis.get(keys.DEAD_LETTERS_EVER) == b"1"


def test_those_that_share_a_task_with_a_poison_are_answered_within_three_deaths(
    gathering: Service, redis: Redis
) -> None:
    with gathering.client(timeout_s=200) as client, ThreadPoolExecutor(10) as pool:
        innocents = INNOCENTS[:7]
        vectors = np.array(client.post("/embed", json={"inputs": innocents}).json())

        def embed(text: str) -> httpx.Response:
            headers = {"x-request-timeout": "180"}
            return client.post("/v1/embeddings", json={"input": text}, headers=headers)

        # Given a task of eight requests, with the poison in its middle
        worker = gathering.part("workers")
        worker.suspend()
        try:
            first = pool.submit(embed, "one that is under way")
            answers: dict[str, Future[httpx.Response]] = {}
            for text in [*innocents[:3], POISON, *innocents[3:]]:
                time.sleep(0.1)
                answers[text] = pool.submit(embed, text)
            time.sleep(0.2)
        finally:
            worker.resume()
        assert first.result().status_code == 200
        wait_until(lambda: len(_held(redis)) == 1, what="the task to be taken")
        ((tag, holder),) = _held(redis).items()
        texts = [texts[0] for texts in _texts(redis, holder, tag)]
        assert sorted(texts) == sorted(answers)

        # When the worker that runs it dies, and each that comes to the poison after it
        os.kill(worker.pid, signal.SIGKILL)
        killer = _Killer(gathering, redis, tag, texts.index(POISON))
        killer.start()
        try:
            refused = answers.pop(POISON).result()
            innocent = [answers[text].result() for text in innocents]
        finally:
            killer.ended.set()
            killer.join()

        # Then the poison has its answer, and the others their vectors
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "worker_lost")
        assert [answer.status_code for answer in innocent] == [200] * len(innocents)
        found = np.array([answer.json()["data"][0]["embedding"] for answer in innocent])
        np.testing.assert_allclose(found, vectors, atol=1e-5)

        # And three died, no fourth; the letter names the poison alone
        assert killer.kills == DEATHS - 1
        assert embed("another").status_code == 200
        assert redis.get(keys.LOST_WORKERS) == str(DEATHS).encode()
        (letter,) = [DeadLetter.model_validate_json(entry) for entry in redis.lrange(keys.DEAD_LETTERS, 0, -1)]
        assert (letter.task, letter.deaths) == (tag.decode(), DEATHS)
        assert [request.sha256 for request in letter.requests] == [[sha256(POISON.encode()).hexdigest()]]


def test_a_worker_that_is_stopped_gives_its_suspects_back_as_what_they_are(service: Service, redis: Redis) -> None:
    with service.client(timeout_s=200) as client, ThreadPoolExecutor(len(INNOCENTS) + 1) as pool:

        def embed(text: str, timeout_s: int = 150) -> httpx.Response:
            headers = {"x-request-timeout": str(timeout_s)}
            return client.post("/v1/embeddings", json={"input": text}, headers=headers)

        # Given a worker that died with many, and one that is at the poison among them
        poisoned = pool.submit(embed, POISON, 90)  # time for two workers to load
        wait_until(lambda: len(_held(redis)) == 1, what="the poison to be taken")
        (tag,) = _held(redis)
        answers = [pool.submit(embed, text) for text in INNOCENTS]
        wait_until(lambda: len(_held(redis)) == 1 + len(INNOCENTS), what="the others to be taken")
        os.kill(service.part("workers").pid, signal.SIGKILL)
        wait_until(lambda: _runs(redis, tag), timeout_s=60, what="the poison to run again")
        waiting = set(_held(redis))

        # When it is told to stop
        stopped = service.part("workers")
        stopped.terminate()
        psutil.wait_procs([stopped], timeout=30)

        # Then it has given them back, and none has counted again
        assert not stopped.is_running()
        wait_until(lambda: _runs(redis, tag), timeout_s=60, what="the poison to run in its successor")
        assert redis.get(keys.LOST_WORKERS) == b"1"
        assert {redis.get(keys.deliveries(one.decode())) for one in waiting} == {b"1"}

        # And the next has them all, when the poison has expired: it is killed once more, as others do it by themselves
        assert poisoned.result().status_code == 504
        os.kill(service.part("workers").pid, signal.SIGKILL)
        assert [answer.result().status_code for answer in answers] == [200] * len(INNOCENTS)
        assert redis.llen(keys.DEAD_LETTERS) == 0


def _runs(redis: Redis, tag: bytes) -> bool:
    """Whether a worker that holds a task says that it runs it."""
    holders = [key.decode().removeprefix(keys.UNACKED_PREFIX) for key in redis.keys(f"{keys.UNACKED_PREFIX}*")]
    return any(redis.get(keys.running(worker)) == _named(tag) for worker in holders)


def _held(redis: Redis) -> dict[bytes, bytes]:
    """Delivery tags that workers hold, and the key that they are in."""
    return {tag: key for key in redis.keys(f"{keys.UNACKED_PREFIX}*") for tag in redis.hkeys(key)}


def _named(tag: bytes, position: int = 0) -> bytes:
    """What a worker writes down that runs a request of a task."""
    return tag + b" %d" % position


def _texts(redis: Redis, key: bytes, tag: bytes) -> list[list[str]]:
    """The texts of each request of a task that a worker holds."""
    entry = redis.hget(key, tag)
    assert entry is not None
    requests = decode_task(entry[1 : entry.rindex(b"}") + 1]).requests
    return [list(request.texts) for request in requests if isinstance(request, EmbedRequest)]
