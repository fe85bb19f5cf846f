"""A worker that lives and does not work, while work waits: it is reported, and another takes its place."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest
from celery import Celery
from pydantic import SecretStr

from shared.celery_app import make_celery
from shared.settings import Settings
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

WEDGED_AFTER_S = 3
QUEUE = "millrace.sentence-transformers/all-MiniLM-L6-v2.interactive"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("wedged"),
        {"MILLRACE_ENGINE": "bench.null_engine", "MILLRACE_WEDGED_AFTER_S": str(WEDGED_AFTER_S)},
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def celery(service: Service) -> Iterator[Celery]:
    app = make_celery(Settings(redis_url=SecretStr(service.part("api").environ()["MILLRACE_REDIS_URL"])))
    yield app
    app.close()


def _livez(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False, timeout=2)


def _embed(service: Service, timeout_s: int) -> httpx.Response:
    with service.client() as client:
        return client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": str(timeout_s)})


def test_every_part_beside_the_gateway_says_that_it_is_alive(service: Service) -> None:
    for port in (service.metrics_port, service.runner_metrics_port, service.callbacks_metrics_port):
        answer = _livez(port)
        assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_worker_that_stands_still_is_replaced_and_its_work_is_done(service: Service) -> None:
    # Given a worker whose process is stopped
    before = service.part("workers").pid
    lost = _lost_workers(service)
    os.kill(before, signal.SIGSTOP)

    # When a request waits for it
    answer = _embed(service, 25)

    # Then another worker answers, and all of it is told
    assert answer.status_code == 200
    assert service.part("workers").pid != before
    assert "part_wedged" in service.log()
    assert "no answer for" in service.log()
    assert _lost_workers(service) == lost + 1


def test_a_worker_that_is_deaf_says_so_and_is_replaced(service: Service, celery: Celery) -> None:
    # Given a worker in good health that does not listen to its queue any more
    before = service.part("workers").pid
    with celery.connection_for_write() as connection:
        replies = celery.control.cancel_consumer(QUEUE, reply=True, timeout=2, connection=connection)
    assert replies
    assert _livez(service.metrics_port).status_code == 200

    # When a request waits for it
    answer = _embed(service, 25)

    # Then
    assert answer.status_code == 200
    assert service.part("workers").pid != before
    assert "worker_wedged" in service.log()
    assert "1 messages queued and 0 held" in service.log()


def test_an_idle_service_keeps_its_workers(service: Service) -> None:
    before = service.part("workers").pid
    deaths = service.log().count("part_died")
    with pytest.raises(TimeoutError):
        wait_until(lambda: service.part("workers").pid != before, timeout_s=WEDGED_AFTER_S + 2)
    assert service.log().count("part_died") == deaths


def _lost_workers(service: Service) -> int:
    with service.client() as client:
        assert client.get("/ready").json()["wedged_workers"] == 0
        return int(client.get("/stats").json()["lost_workers"])
