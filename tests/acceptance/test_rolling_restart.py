"""All parts are replaced one after the other while people search, as a rollout does: no request fails."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from shared import keys
from shared.leases import CALLBACK_WORKERS
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.valkey import ValkeyServer, free_port
from tests.helpers.waiting import wait_until

#: Longer than the balancer takes to notice.
LEAVE_AFTER_S = 4.0
CLIENTS = 4
SEGMENT_DOCUMENTS = 20
#: uvicorn finishes, and then dies of the signal that it was sent.
LEFT_IN_ORDER = (0, -signal.SIGTERM)


class Part:
    """A process of the deployment that is replaced by a new one before it is told to go."""

    def __init__(self, module: str, folder: Path, environment: dict[str, str]) -> None:
        self.module = module
        self._log = folder / f"{module}-{environment['MILLRACE_PORT']}.log"
        self.port = int(environment["MILLRACE_PORT"])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module], env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def is_ready(self) -> bool:
        """Whether this gateway says so."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def leave(self) -> None:
        """SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) in LEFT_IN_ORDER, self._log.read_text()[-2000:]


class Balancer:
    """Sends each request to a gateway that was ready when it last looked, on a connection of its own, and never again.

    Some send searches, one sends the documents of a job, all the while.
    """

    def __init__(self) -> None:
        self.gateways: list[Part] = []
        self._ready: list[Part] = []
        self.outcomes: Counter[str] = Counter()
        self.job = ""
        self.documents = 0
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=self._look),
            *(threading.Thread(target=self._ask) for _ in range(CLIENTS)),
            threading.Thread(target=self._ingest),
        ]

    def _look(self) -> None:
        while not self.stop.wait(0.1):
            self._ready = [gateway for gateway in self.gateways if gateway.is_ready()]

    def _ask(self) -> None:
        number = 0
        while not self.stop.wait(0.01):
            if not (ready := self._ready):
                continue
            number += 1
            url = f"http://127.0.0.1:{ready[number % len(ready)].port}/v1/embeddings"
            try:
                answer = httpx.post(url, json={"input": f"text {number}"}, timeout=40, trust_env=False)
            except httpx.HTTPError as err:
                self.outcomes[repr(err)] += 1
            else:
                fine = answer.status_code == 200 and len(answer.json()["data"]) == 1
                self.outcomes["ok" if fine else f"{answer.status_code} {answer.text[:200]}"] += 1

    def _ingest(self) -> None:
        while not self.stop.wait(0.2):
            if self._ready:
                self.send_documents(more=True)

    def send_documents(self, *, more: bool) -> None:
        """The next ones of the job."""
        lines = [f'{{"id": "{self.documents + n}", "text": "document"}}\n' for n in range(SEGMENT_DOCUMENTS)]
        params = {"offset": str(self.documents), "more": str(more).lower()}
        url = f"http://127.0.0.1:{self._ready[0].port}/v1/jobs/{self.job}/documents"
        answer = httpx.post(url, params=params, content="".join(lines).encode(), timeout=40, trust_env=False)
        self.outcomes["ok" if answer.status_code == 202 else f"{answer.status_code} {answer.text[:200]}"] += 1
        self.documents += SEGMENT_DOCUMENTS


@pytest.fixture
def start(own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Callable[[str], Part]]:
    """Starts a part; what is left at the end is killed."""
    parts: list[Part] = []

    def start(module: str) -> Part:
        environment = {
            "MILLRACE_REDIS_URL": own_valkey.url(),
            "MILLRACE_STORE": str(tmp_path / "store"),
            "MILLRACE_ENGINE": "bench.null_engine",
            "MILLRACE_WORKER_METRICS_PORT": "0",
            "MILLRACE_RUNNER_METRICS_PORT": "0",
            "MILLRACE_CALLBACKS_METRICS_PORT": "0",
            "MILLRACE_WEBHOOK_HOSTS": "127.0.0.1",
            "MILLRACE_JOB_SEGMENT_DOCUMENTS": str(SEGMENT_DOCUMENTS),
            "MILLRACE_PORT": str(free_port()),
            "MILLRACE_LEAVE_AFTER_S": str(LEAVE_AFTER_S),
        }
        parts.append(Part(module, tmp_path, environment))
        return parts[-1]

    yield start
    for part in parts:
        part.process.kill()
        part.process.wait()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


def test_a_rollout_of_all_parts_fails_no_request_and_no_document(
    start: Callable[[str], Part], own_valkey: ValkeyServer, receiver: Receiver
) -> None:
    # Given all parts, two workers and two gateways among them, with searches and a job whose results are called back
    balancer = Balancer()
    workers = [start("workers"), start("workers")]
    balancer.gateways = [start("api"), start("api")]
    bulk = [start("api.bulk"), start("workers.callbacks")]
    with redis.Redis.from_url(own_valkey.url()) as client:

        def live_workers() -> int:
            return sum(not lease.startswith(CALLBACK_WORKERS.encode()) for lease in client.zrange(keys.LEASES, 0, -1))

        def live_callback_workers() -> int:
            return client.zcard(keys.LEASES) - live_workers()

        wait_until(
            lambda: live_workers() == 2 and all(gateway.is_ready() for gateway in balancer.gateways), timeout_s=60
        )
        gateway_url = f"http://127.0.0.1:{balancer.gateways[0].port}"
        made = httpx.post(f"{gateway_url}/v1/jobs", json={"webhook": {"url": receiver.url}}, trust_env=False)
        balancer.job = made.json()["id"]
        for thread in balancer.threads:
            thread.start()
        try:
            wait_until(lambda: balancer.outcomes["ok"] > 50, timeout_s=30, what="the load")

            # When each is replaced: the new one first, then the old one is told to go
            for worker in workers:
                start("workers")
                wait_until(lambda: live_workers() >= 3, timeout_s=180, what="a new worker")
                worker.leave()
                wait_until(lambda: live_workers() == 2, timeout_s=30, what="the old worker's lease to end")
            runner, callback_worker = bulk
            start("api.bulk")
            runner.leave()
            wait_until(lambda: live_callback_workers() == 1, timeout_s=30, what="the callback worker")
            start("workers.callbacks")
            wait_until(lambda: live_callback_workers() == 2, timeout_s=30, what="a new callback worker")
            callback_worker.leave()
            for gateway in list(balancer.gateways):
                newcomer = start("api")
                wait_until(newcomer.is_ready, timeout_s=30, what="a new gateway")
                balancer.gateways.append(newcomer)
                gateway.leave()
                balancer.gateways.remove(gateway)
            before = balancer.outcomes["ok"]
            wait_until(lambda: balancer.outcomes["ok"] > before + 50, timeout_s=30, what="the load to go on")
        finally:
            balancer.stop.set()
            for thread in balancer.threads:
                thread.join()

    # Then nobody noticed, and each document has been called back, once
    assert set(balancer.outcomes) == {"ok"}, balancer.outcomes
    balancer.send_documents(more=False)
    wait_until(lambda: bool(receiver.of("completed")), timeout_s=60, what="the end of the job to be called back")
    results = [event for event in receiver.received if "completed" not in event.event_id]
    told = Counter(result["id"] for event in results for result in json.loads(event.body)["data"]["results"])
    assert told == {str(number): 1 for number in range(balancer.documents)}


def test_a_gateway_that_is_told_to_go_says_so_and_still_answers(
    start: Callable[[str], Part], own_valkey: ValkeyServer
) -> None:
    # Given
    start("workers")
    gateway = start("api")
    wait_until(gateway.is_ready, timeout_s=180, what="the gateway")

    # When
    gateway.process.send_signal(signal.SIGTERM)
    told_at = time.monotonic()

    # Then
    wait_until(lambda: not gateway.is_ready(), timeout_s=5, what="/ready to say so")
    answer = httpx.post(f"http://127.0.0.1:{gateway.port}/embed", json={"inputs": "a"}, trust_env=False)
    assert answer.status_code == 200
    assert gateway.process.wait(30) in LEFT_IN_ORDER
    assert time.monotonic() - told_at >= LEAVE_AFTER_S
