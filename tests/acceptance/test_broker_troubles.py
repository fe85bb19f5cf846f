"""Redis goes wrong in all the ways that stop Celery's workers for ever, by their trackers, or a network can: all goes on.

The worker (its own pool), the callback worker (Celery's pool of threads) and Celery's remote control are all asked after
each of them. The same processes must have lived through it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from pydantic import SecretStr
from redis import Redis

from shared.celery_app import make_celery
from shared.settings import Settings
from tests.helpers.ingest import submit
from tests.helpers.load import embed_all
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.service import Service
from tests.helpers.tcp_proxy import TcpProxy, running_proxy
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.alone

DEADLINE_S = 12.0
REQUESTS = 1000
PARTS = ("api", "workers", "api.bulk", "workers.callbacks")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: ValkeyServer) -> Iterator[TcpProxy]:
    """By which the service reaches the server."""
    with running_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def redis(server: ValkeyServer) -> Iterator[Redis]:
    with Redis.from_url(server.url()) as redis:
        yield redis


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


@pytest.fixture(scope="module")
def celery(server: ValkeyServer) -> Iterator[Celery]:
    app = make_celery(Settings(redis_url=SecretStr(server.url())))
    yield app
    app.close()


@pytest.fixture(autouse=True)
def _goes_on(service: Service, receiver: Receiver, celery: Celery) -> Iterator[None]:
    before = service.pids(PARTS)
    yield
    _assert_all_answer(service, receiver, celery)
    assert service.pids(PARTS) == before


def test_connections_that_are_cut_again_and_again_while_nothing_happens(redis: Redis) -> None:
    """celery 7276, 8030, 8091, 9054, 10205: up, connected, and deaf ever after."""
    for _ in range(5):
        _cut(redis)
        time.sleep(0.3)


def test_connections_that_are_cut_while_a_worker_works(redis: Redis, service: Service) -> None:
    """kombu's 'NoneType' object has no attribute 'hostname', with messages in hand, in any pool but solo."""
    job = submit(service, 3000)
    for _ in range(5):
        _cut(redis)
        time.sleep(0.2)
    wait_until(lambda: _job_state(service, job) == "completed", timeout_s=30, what="the job to end")


def test_a_reconnection_that_is_cut_before_it_is_done(redis: Redis) -> None:
    """A consumer that is interrupted in its restart keeps timers and half a connection of the one before."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        _cut(redis)


def test_a_server_that_forgets_everything(redis: Redis) -> None:
    """The bindings of Celery's remote control are gone with the rest, and were only written at a worker's start."""
    redis.flushall()


def test_a_server_that_refuses_to_write_for_a_while(redis: Redis) -> None:
    """A full disk, too little memory, or replicas that are missing: an error that is none of the connection."""
    redis.config_set("min-replicas-to-write", 1)
    time.sleep(2)
    redis.config_set("min-replicas-to-write", 0)


def test_connections_that_are_dead_for_ever_are_replaced_within_ten_seconds(service: Service, proxy: TcpProxy) -> None:
    """A lost NAT entry: nothing comes through any more, and nobody is told."""
    heard = len(service.log())

    _survive(service, proxy.forget)

    ended = [line for line in service.log()[heard:].splitlines() if "silent_connections_ended" in line]
    assert {line.split("|")[0].strip() for line in ended} == {"gateway", "jobs", "worker", "callbacks"}


def test_so_are_they_where_those_that_watch_for_it_live(service: Service, proxy: TcpProxy) -> None:
    """One of several ways to the server is dead, and heartbeat and fleet went the other."""
    _survive(service, lambda: proxy.forget(spare_watchers=True))


def test_a_network_that_stands_still_is_survived(service: Service, proxy: TcpProxy) -> None:
    def stand_still() -> None:
        proxy.silence()
        time.sleep(4)
        proxy.mend()

    _survive(service, stand_still)


def _survive(service: Service, trouble: Callable[[], None]) -> None:
    """Under load and in the middle of a job, make trouble, which is over when the function returns."""
    # Given
    job = submit(service, 2000)
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
    assert len(answers) == REQUESTS
    assert {answer.status for answer in answers} <= {200, 503, 504}
    assert max(answer.seconds for answer in answers) < DEADLINE_S + 1
    wait_until(lambda: _job_state(service, job) == "completed", timeout_s=30, what="the job to end")


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


def _cut(redis: Redis) -> None:
    """End every connection but this one."""
    for kind in ("normal", "pubsub"):
        redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def _assert_all_answer(service: Service, receiver: Receiver, celery: Celery) -> None:
    with service.client() as client:

        def is_answered() -> bool:
            return client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": "2"}).status_code == 200

        wait_until(is_answered, timeout_s=10, what="an answer of the worker")
        job = client.post(
            "/v1/ingest",
            params={"webhook": receiver.url},
            content=b'{"text": "a"}\n',
            headers={"content-type": "application/x-ndjson"},
        ).json()["id"]
    wait_until(lambda: receiver.of(job), timeout_s=15, what="the callback worker's callback")
    with celery.connection_for_write() as connection:  # of its own: the application's was cut too
        wait_until(
            lambda: len(celery.control.ping(timeout=1, connection=connection) or []) == 2,
            timeout_s=10,
            what="answers of remote control",
        )


def _job_state(service: Service, job: str) -> str:
    with service.client() as client:
        return str(client.get(f"/v1/jobs/{job}").json()["status"])
