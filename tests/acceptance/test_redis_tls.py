"""A service with all its locks: Redis with TLS and a user, and keys; every part gets through, and none tells a secret."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis

from tests.helpers.certificates import Certificates, make_certificates
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.sentinels import MASTER, running_sentinel
from tests.helpers.sentinels import PASSWORD as SENTINELS_PASSWORD
from tests.helpers.service import Service
from tests.helpers.tcp_proxy import running_proxy
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until

USER, PASSWORD = "millrace", "correct-horse-battery"
KEY = "mr_battery-staple"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server that lets nobody in but the user."""
    with running_valkey(tmp_path_factory.mktemp("valkey"), user=USER, password=PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: ValkeyServer, certificates: Certificates) -> Iterator[str]:
    """Its address, by TLS."""
    with running_proxy(server.port, tls=certificates.server_context()) as proxy:
        yield f"rediss://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/0"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, address: str, certificates: Certificates, receiver: Receiver
) -> Iterator[Service]:
    settings = {
        "MILLRACE_REDIS_URL": f"{address}?ssl_ca_certs={certificates.authority}",
        "MILLRACE_API_KEY": f"{KEY}, another",
        "MILLRACE_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}",
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    service = Service(tmp_path_factory.mktemp("service"), settings)
    service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
    service.start()
    yield service
    service.stop()


def test_gateway_worker_runner_callbacks_and_flower_all_get_through(
    service: Service, server: ValkeyServer, receiver: Receiver
) -> None:
    _try_all_parts(service, receiver)
    with Redis.from_url(server.url()) as redis:
        assert {entry["user"] for entry in redis.client_list()} == {USER}


def _try_all_parts(service: Service, receiver: Receiver) -> None:
    flower = f"http://127.0.0.1:{service.flower_port}/api/tasks"
    with _client(service) as client:
        # Gateway and worker
        assert len(client.post("/embed", json={"inputs": "a"}).json()[0]) == 384
        # runner, and callback worker
        job = client.post(
            "/v1/ingest",
            params={"webhook": receiver.url},
            content=b'{"text": "a"}\n',
            headers={"content-type": "application/x-ndjson"},
        ).json()
        wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed", what="the job to end")
        wait_until(lambda: receiver.of(job["id"]), timeout_s=30, what="the callback")
        # Flower
        wait_until(lambda: httpx.get(flower, trust_env=False).json(), timeout_s=30, what="Flower to see a task")


def test_flower_shows_the_lengths_of_queues(service: Service) -> None:
    # Given a worker that has told Flower which queue it takes from
    broker = f"http://127.0.0.1:{service.flower_port}/broker"

    # Then the broker's page has it: Flower asks for its length by TLS, and believes the given authority
    row = '<tr id="millrace.callbacks">'
    wait_until(lambda: row in httpx.get(broker, trust_env=False).text, timeout_s=30, what="Flower to list the queue")
    assert "Unable to get queues" not in service.log()


def test_the_password_is_in_no_log_no_answer_and_no_command_line(service: Service) -> None:
    with _client(service) as client:
        answers = [client.get(path).text for path in ("/readyz", "/stats", "/metrics", "/info", "/openapi.json")]
    flower = f"http://127.0.0.1:{service.flower_port}"
    answers += [httpx.get(f"{flower}{path}", trust_env=False).text for path in ("/workers", "/broker", "/api/workers")]
    commands = [" ".join(process.cmdline()) for process in service.processes() if process.is_running()]

    assert len(commands) >= 5
    for text in (service.log(), *answers, *commands):
        assert PASSWORD not in text
        assert KEY not in text


def test_the_command_line_sends_the_first_key(service: Service) -> None:
    def check(key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "millrace.cli", "check", service.url]
        environment = {**os.environ, "MILLRACE_API_KEY": key}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    right, wrong = check(f"{KEY}, another"), check("wrong")

    assert (right.returncode, wrong.returncode) == (0, 1)
    assert "9 of 9 checks passed" in right.stdout
    assert "status 401" in wrong.stdout
    assert KEY not in right.stdout


def _client(service: Service) -> httpx.Client:
    client = service.client()
    client.headers["authorization"] = f"Bearer {KEY}"
    return client


def test_a_server_that_nobody_vouches_for_is_refused(tmp_path: Path, address: str) -> None:
    # Given an address without the authority of its certificate
    service = Service(tmp_path, {"MILLRACE_REDIS_URL": address})

    # When the service is started on it
    service.launch()
    assert service.process is not None
    status = service.process.wait(60)

    # Then it says why it does not, and not with which password it tried
    assert status == 1
    assert "certificate verify failed" in service.log()
    assert PASSWORD not in service.log()
    assert not psutil.pid_exists(service.process.pid)


def test_sentinels_and_the_primary_that_they_name_are_spoken_to_by_tls(
    tmp_path: Path, certificates: Certificates, receiver: Receiver
) -> None:
    with (
        running_valkey(tmp_path) as server,
        running_proxy(server.port) as primary,
        running_sentinel(tmp_path, primary.port) as sentinel,
        running_proxy(sentinel, tls=certificates.server_context()) as watchman,
    ):
        # Given a primary that speaks plainly to its sentinel, which is there already, and by TLS to all others
        primary.encrypt(certificates.server_context())
        address = f"sentinel://127.0.0.1:{watchman.port}/0?master={MASTER}&sentinel_password={SENTINELS_PASSWORD}"
        settings = {
            "MILLRACE_REDIS_URL": f"{address}&ssl=true&ssl_ca_certs={certificates.authority}",
            "MILLRACE_API_KEY": KEY,
            "MILLRACE_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}",
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        service = Service(tmp_path, settings)
        service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
        # When the service is started on them
        service.start()
        # Then every part of it works
        try:
            _try_all_parts(service, receiver)
        finally:
            service.stop()
