"""A worker that lives and does not work, while work waits: it is reported, and another takes its place."""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from celery import Celery
from pydantic import SecretStr

from millrace.check import check
from shared.celery_app import make_celery
from shared.queues import CALLBACK_QUEUE
from shared.settings import Settings
from tests.helpers.receivers import running_receiver
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.alone

WEDGED_AFTER_S = 3
QUEUE = "millrace.sentence-transformers/all-MiniLM-L6-v2.interactive"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("wedged"),
        {
            "MILLRACE_ENGINE": "bench.null_engine",
            "MILLRACE_WEDGED_AFTER_S": str(WEDGED_AFTER_S),
            "MILLRACE_WEBHOOK_HOSTS": "127.0.0.1",
        },
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def celery(service: Service) -> Iterator[Celery]:
    app = make_celery(Settings(redis_url=SecretStr(service.part("api").environ()["MILLRACE_REDIS_URL"])))
    yield app
    app.close()


def _worker(service: Service) -> psutil.Process:
    """The worker, once the supervisor has heard of it that it is well: it asks every second."""
    wait_until(lambda: _answers_well(service.metrics_port), timeout_s=30, what="the worker's port")
    time.sleep(2)
    return service.part("workers")


def _answers_well(port: int) -> bool:
    try:
        return _livez(port).status_code == 200
    except httpx.HTTPError:
        return False


def _livez(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False, timeout=2)


def _embed(service: Service, timeout_s: int) -> httpx.Response:
    with service.client() as client:
        return client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": str(timeout_s)})


def test_every_part_beside_the_gateway_says_that_it_is_alive(service: Service) -> None:
    for port in (service.metrics_port, service.runner_metrics_port, service.callbacks_metrics_port):
        answer = _livez(port)
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_worker_that_stands_still_is_told_of_and_replaced_and_its_work_is_done(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a worker whose process is stopped
    before = _worker(service).pid
    lost = _lost_workers(service)
    os.kill(before, signal.SIGSTOP)

    # When a request waits for it, once the loss has been noticed
    with service.client() as client:
        wait_until(lambda: client.get("/ready").status_code == 503, what="the loss to be noticed")
    check(service.url, timeout_s=1)
    answer = _embed(service, 40)

    # Then the self-test says what is wrong
    ready = next(line for line in capsys.readouterr().out.splitlines() if "ready" in line)
    assert ready.startswith("FAILED")
    assert "no worker has run sentence-transformers/all-MiniLM-L6-v2" in ready
    # and another worker answers, and all of it is told
    assert answer.status_code == 200
    assert service.part("workers").pid != before
    assert "part_wedged" in service.log()
    assert "no answer for" in service.log()
    assert _lost_workers(service) == lost + 1


def test_a_worker_that_is_deaf_says_so_and_is_replaced(service: Service, celery: Celery) -> None:
    # Given a worker in good health that does not listen to its queue any more
    before = _worker(service).pid
    with celery.connection_for_write() as connection:
        replies = celery.control.cancel_consumer(QUEUE, reply=True, timeout=2, connection=connection)
    assert replies
    assert _livez(service.metrics_port).status_code == 200

    # When a request waits for it
    answer = _embed(service, 40)

    # Then
    assert answer.status_code == 200
    assert service.part("workers").pid != before
    assert "worker_wedged" in service.log()
    assert "1 messages queued and 0 held" in service.log()


@pytest.mark.parametrize("module", ["api.bulk", "workers.callbacks"])
def test_a_part_of_bulk_work_that_stands_still_is_replaced(service: Service, module: str) -> None:
    before = service.part(module).pid
    time.sleep(2)  # the supervisor hears that it is well

    os.kill(before, signal.SIGSTOP)

    wait_until(lambda: _has_another(service, module, before), timeout_s=30, what="another to take its place")
    assert "no answer for" in service.log()


def test_a_callback_worker_that_is_deaf_is_replaced_and_its_callbacks_are_made(
    service: Service, celery: Celery
) -> None:
    # Given
    wait_until(lambda: _answers_well(service.callbacks_metrics_port), timeout_s=30, what="its port")
    time.sleep(2)
    before = service.part("workers.callbacks").pid
    with celery.connection_for_write() as connection:
        assert celery.control.cancel_consumer(CALLBACK_QUEUE, reply=True, timeout=2, connection=connection)

    # When
    with running_receiver() as receiver, service.client() as client:
        options = {"webhook": receiver.url}
        made = client.post("/v1/ingest", params=options, content=b'{"id": "a", "text": "a mill"}\n')
        assert made.status_code == 202
        wait_until(lambda: len(receiver.of(made.json()["id"])) >= 2, timeout_s=60, what="its results and its end")

    # Then
    assert service.part("workers.callbacks").pid != before
    assert "part=callbacks reason='nothing has moved for" in service.log()


def _has_another(service: Service, module: str, before: int) -> bool:
    try:
        return service.part(module).pid != before
    except StopIteration:
        return False  # it has been killed, and the next one is not there yet


def _lost_workers(service: Service) -> int:
    with service.client() as client:
        assert client.get("/ready").json()["wedged_workers"] == 0
        return int(client.get("/stats").json()["lost_workers"])
