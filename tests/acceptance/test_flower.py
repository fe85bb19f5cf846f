"""Flower: it asks for its password, shows sizes and never texts, and stops when it is told to."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer, free_port
from tests.helpers.waiting import wait_until

USER, PASSWORD = "ada", "never,say:this"
TEXT = "Nobody may read this sentence."
PREFIX = "/operators/flower"
#: Within this time Flower has asked its workers to tell of their tasks, and a thread of it waits for the broker. In seconds.
_ASKS_AGAIN_S = 6.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a model whose Flower listens on every address."""
    settings = {
        "MILLRACE_ENGINE": "bench.null_engine",
        "MILLRACE_FLOWER_HOST": "0.0.0.0",
        "MILLRACE_FLOWER_PASSWORD": f"{USER}:{PASSWORD}",
        "MILLRACE_FLOWER_URL_PREFIX": PREFIX,
        # Flower's own variable, which must not open what ours closes.
        "FLOWER_BASIC_AUTH": "other:other",
    }
    service = Service(tmp_path_factory.mktemp("service"), settings)
    service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
    service.start()
    yield service
    service.stop()


def _flower(service: Service, user: str = USER, password: str = PASSWORD) -> httpx.Client:
    url = f"http://127.0.0.1:{service.flower_port}{PREFIX}"
    return httpx.Client(base_url=url, auth=(user, password), trust_env=False, timeout=30)


@pytest.mark.parametrize("path", ["/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers"])
def test_every_page_asks_for_the_password(service: Service, path: str) -> None:
    with _flower(service, "other", "other") as wrong, _flower(service) as right:
        assert wrong.get(path).status_code == 401
        assert httpx.get(wrong.base_url.join(path.lstrip("/")), trust_env=False).status_code == 401
        assert right.get(path).status_code == 200


def test_probe_and_metrics_are_open_and_name_tasks_only(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": TEXT}).raise_for_status()
    url = f"http://127.0.0.1:{service.flower_port}{PREFIX}"

    def metrics() -> str:
        return httpx.get(f"{url}/metrics", trust_env=False).text

    # Others have been there before it: the service asks itself when it starts.
    counted = 'flower_events_total{task="millrace.embed",type="task-succeeded"'
    wait_until(lambda: counted in metrics(), what="Flower to count the task")
    assert httpx.get(f"{url}/healthcheck", trust_env=False).text == "OK"
    assert TEXT not in metrics()


def test_those_who_do_not_come_through_the_proxy_need_not_know_the_prefix(service: Service) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{service.flower_port}", trust_env=False) as prober:
        assert prober.get("/healthcheck").text == "OK"
        assert "flower_events_total" in prober.get("/metrics").text
        # And no more than that is there.
        for path in ("/", "/workers", "/tasks", "/api/workers", "/healthcheck/x"):
            assert prober.get(path, auth=(USER, PASSWORD)).status_code == 404, path


def test_tasks_are_shown_with_lane_model_requests_and_tokens_and_without_their_texts(service: Service) -> None:
    # Given tasks of every operation that carry the text
    with service.client() as client:
        client.post("/embed", json={"inputs": [TEXT, TEXT]}).raise_for_status()
        client.post("/rerank", json={"query": TEXT, "texts": [TEXT]}).raise_for_status()
        client.post("/tokenize", json={"inputs": TEXT}).raise_for_status()

    # When all that Flower shows of them is read
    columns = {f"columns[{n}][data]": name for n, name in enumerate(["name", "args", "result"])}
    query = {"draw": 1, "start": 0, "length": 100, "order[0][column]": 0, "order[0][dir]": "asc", **columns}
    with _flower(service) as flower:
        wait_until(lambda: "millrace.tokenize" in flower.get("/api/tasks").text, what="Flower to see the tasks")
        tasks = flower.get("/api/tasks").json()
        shown = [flower.get("/api/tasks").text, flower.get("/tasks/datatable", params=query).text]
        shown += [flower.get(f"/task/{task_id}").text for task_id in tasks]

    # Then it has sizes
    assert {task["name"] for task in tasks.values()} >= {"millrace.embed", "millrace.rerank", "millrace.tokenize"}
    assert re.search(
        r"interactive all-MiniLM-L6-v2 requests=1 items=2 model=sentence-transformers/all-MiniLM-L6-v2", shown[1]
    )
    assert re.search(r"requests=1 items=2 tokens=\d+", shown[1])
    for page in shown:
        assert "Nobody may" not in page


def test_the_password_is_on_no_command_line_and_in_no_log(service: Service) -> None:
    commands = [" ".join(process.cmdline()) for process in service.processes() if process.is_running()]

    assert any("millrace.flower" in command for command in commands)
    for text in (service.log(), *commands):
        assert PASSWORD not in text


def test_it_stops_when_it_is_told_to_though_its_broker_is_away(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    # Given Flower alone, whose broker has gone
    port = free_port()
    environment = {"MILLRACE_REDIS_URL": own_valkey.url(), "MILLRACE_FLOWER_PORT": str(port)}
    log = tmp_path / "flower.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "millrace.cli", "flower"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        probe = f"http://127.0.0.1:{port}/healthcheck"
        wait_until(lambda: _answers(probe), timeout_s=60, what=f"Flower to answer; {log.read_text()}")
        own_valkey.stop()
        time.sleep(_ASKS_AGAIN_S)

        # When
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait(20)

        # Then
        assert status == 0
        assert time.monotonic() - told < 3
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
