"""The network to Redis goes dead without a word: nothing hangs, and the service is back within ten seconds."""

import asyncio
import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from tests.helpers.load import Answer, embed_all
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.service import Service
from tests.helpers.tcp_proxy import TcpProxy
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

PARTS = ("api", "workers", "api.bulk", "workers.callbacks")
DEADLINE_S = 12.0
REQUESTS = 1500
DOCUMENTS = 4_000


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpProxy]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    proxy = TcpProxy(server.port)
    proxy.start()
    yield proxy
    proxy.stop()
    server.stop()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, proxy: TcpProxy, receiver: Receiver) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("service"),
        {
            "MILLRACE_REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            "MILLRACE_ENGINE": "bench.null_engine",
            "MILLRACE_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}",
            "MILLRACE_JOB_SEGMENT_DOCUMENTS": "50",
        },
    )
    service.start()
    yield service
    service.stop()


def test_connections_that_are_dead_for_ever_are_replaced_within_ten_seconds(
    service: Service, proxy: TcpProxy, receiver: Receiver
) -> None:
    _survive(service, receiver, proxy.forget)


def test_a_network_that_stands_still_is_survived(service: Service, proxy: TcpProxy, receiver: Receiver) -> None:
    def stand_still() -> None:
        proxy.silence()
        time.sleep(4)
        proxy.mend()

    _survive(service, receiver, stand_still)


def _survive(service: Service, receiver: Receiver, trouble: Callable[[], None]) -> None:
    """Under load and in the middle of a job, make trouble, which is over when the function returns."""
    # Given
    job = _submit(service, receiver)
    processes = {module: service.part(module).pid for module in PARTS}
    back_after_s = 0.0

    async def make_trouble() -> None:
        nonlocal back_after_s
        await asyncio.sleep(0.5)
        await asyncio.to_thread(trouble)
        over = time.monotonic()
        await asyncio.to_thread(_wait_for_an_answer, service)
        back_after_s = time.monotonic() - over

    # When
    texts = [f"number {number}" for number in range(REQUESTS)]
    answers = asyncio.run(embed_all(service.url, texts, concurrency=8, timeout_s=DEADLINE_S, during=make_trouble))

    # Then
    assert 0 < back_after_s < 10
    _assert_clear(answers)
    wait_until(lambda: _state(service, job) == "completed", timeout_s=30, what="the job to end")
    wait_until(lambda: receiver.of(job), timeout_s=30, what="the callback")
    assert {module: service.part(module).pid for module in PARTS} == processes


def _assert_clear(answers: list[Answer]) -> None:
    assert len(answers) == REQUESTS
    assert {answer.status for answer in answers} <= {200, 503, 504}
    assert max(answer.seconds for answer in answers) < DEADLINE_S + 1


def _wait_for_an_answer(service: Service) -> None:
    def has_answered() -> bool:
        started = time.monotonic()
        response = client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": "1"})
        assert time.monotonic() - started < 2
        if response.status_code != 200:
            assert response.status_code in (503, 504)
            assert int(response.headers["retry-after"]) >= 1
        return response.status_code == 200

    with service.client() as client:
        wait_until(has_answered, timeout_s=40, what="an answer")


def _submit(service: Service, receiver: Receiver) -> str:
    lines = b"".join(orjson.dumps({"id": number, "text": f"text {number}"}) + b"\n" for number in range(DOCUMENTS))
    with service.client() as client:
        answer = client.post("/v1/ingest", params={"webhook": receiver.url}, content=lines)
        assert answer.status_code == 202, answer.text
        job: str = answer.json()["id"]
    return job


def _state(service: Service, job: str) -> str:
    with service.client() as client:
        return str(client.get(f"/v1/jobs/{job}").json()["status"])
