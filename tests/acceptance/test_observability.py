"""What an operator sees: probes, metrics, Flower, the self-test."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

from shared.metrics import METRICS, Owner
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until


def test_health_and_readiness(service: Service) -> None:
    with service.client() as client:
        assert client.get("/health").status_code == 200
        ready = client.get("/ready")

    assert ready.status_code == 200
    body = ready.json()
    assert abs(body.pop("unix") - time.time()) < 60
    assert body == {
        "ready": True,
        "status": "ok",
        "leaving": False,
        "redis": True,
        "missing_models": [],
        "sleeping_models": [],
        "workers": 1,
        "wedged_workers": 0,
    }


def test_info_tells_the_model_and_its_limits(service: Service) -> None:
    with service.client() as client:
        info = client.get("/info").json()

    assert info["model_id"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 256


def test_the_status_tells_models_lanes_workers_and_the_other_parts(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": "one"}).raise_for_status()
        wait_until(
            lambda: client.get("/v1/status").json()["parts"]["job_runners"], what="the job runner to be heard of"
        )
        status = client.get("/v1/status").json()

    assert status["problems"] == []
    assert status["parts"] == {"gateways": 1, "job_runners": 1, "callback_workers": 1}
    (model,) = status["models"]
    assert (model["ready"], model["workers"], model["dimensions"]) == (True, 1, 384)
    interactive = model["lanes"][0]
    assert (interactive["lane"], interactive["queued_tasks"]) == ("interactive", 0)
    assert interactive["answered_per_s"] > 0
    assert 0 < interactive["p50_ms"] <= interactive["p95_ms"]
    (worker,) = status["workers"]
    assert (worker["state"], worker["models"][0]["dtype"]) == ("ready", "float32")
    assert worker["models"][0]["tokens_per_s"] > 0


def test_every_process_exposes_its_metrics(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": ["one", "two"]})
        gateway = client.get("/metrics").text
    ports = {
        Owner.WORKER: service.metrics_port,
        Owner.RUNNER: service.runner_metrics_port,
        Owner.CALLBACKS: service.callbacks_metrics_port,
    }
    texts = {
        owner: httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for owner, port in ports.items()
    }
    texts[Owner.GATEWAY] = gateway
    worker = texts[Owner.WORKER]

    for metric in METRICS:
        assert f"# HELP {metric.name} " in texts[metric.owner], metric.name
    labels = 'dialect="tei",operation="embed"'
    assert re.search(rf'millrace_requests_total\{{code="ok",{labels}\}} \d', gateway)
    assert re.search(r'te_request_success\{method="batch"\} \d', gateway)
    assert re.search(r"te_batch_next_size_count \d", worker)
    assert "millrace_engine_ready 1.0" in worker
    assert re.search(r"millrace_parallel_batches [12]\.0", worker)


def test_tokens_per_document_are_what_the_sizing_page_asks_the_workers_for(service: Service) -> None:
    # Given the page's query: the sums of these two
    page = (Path(__file__).parents[2] / "docs" / "sizing.md").read_text()
    names = re.findall(r"increase\((millrace_\w+_sum)\[", page)
    assert len(names) == 2

    def sums() -> list[float]:
        text = httpx.get(f"http://127.0.0.1:{service.metrics_port}/metrics", trust_env=False).text
        return [
            sum(float(found) for found in re.findall(rf"^{name}{{.*}} (.+)$", text, re.MULTILINE)) for name in names
        ]

    # When some documents come through a job and one in a request, and another request ends before it is computed
    before = sums()
    texts = ["mill", "The river turns the wheel of the mill.", "stone " * 40]
    with service.client() as client:
        lines = "".join(json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts))
        job = client.post("/v1/ingest", content=lines, headers={"content-type": "application/x-ndjson"}).json()["id"]
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "completed", timeout_s=60, what="the job")
        answer = client.post("/v1/embeddings", json={"input": texts[1]})
        expected = client.post("/v1/embeddings", json={"input": texts}).json()["usage"]["prompt_tokens"]
        client.post("/embed", json={"inputs": "late"}, headers={"x-request-timeout": "0.000001"})
    wait_until(lambda: sums()[1] - before[1] >= 7, what="the workers' metrics")

    # Then tokens over documents are the model's: all three twice, and one once more
    tokens, documents = (after - earlier for after, earlier in zip(sums(), before, strict=True))
    assert (tokens, documents) == (2 * expected + answer.json()["usage"]["prompt_tokens"], 7)


def test_flower_shows_each_task_with_model_lane_requests_and_tokens(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": ["a", "b", "c"]}, headers={"x-millrace-lane": "bulk"})

    flower = f"http://127.0.0.1:{service.flower_port}/api/tasks"

    def finished() -> list[dict[str, str]]:
        tasks = httpx.get(flower, trust_env=False).json().values()
        ours = "lane=bulk requests=1 items=3 "  # other tests send bulk work to this service too
        return [task for task in tasks if task["state"] == "SUCCESS" and ours in (task["args"] or "")]

    wait_until(lambda: bool(finished()), timeout_s=15, what="Flower to show the task")
    task = finished()[0]
    assert task["name"] == "millrace.embed"
    assert "model=sentence-transformers/all-MiniLM-L6-v2" in task["args"]
    assert re.search(r"requests=1 items=3 tokens=\d+", task["result"])


def test_check_passes_and_prints_a_table(service: Service) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "millrace.cli", "check", service.url], capture_output=True, text=True, timeout=60
    )

    assert finished.returncode == 0, finished.stdout
    assert "9 of 9 checks passed" in finished.stdout


def test_check_fails_where_nobody_answers(service: Service) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "millrace.cli", "check", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert finished.returncode == 1
    assert "FAILED" in finished.stdout


def test_models_are_listed_by_the_command_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "millrace.cli", "models"], capture_output=True, text=True, timeout=60
    )

    assert finished.returncode == 0
    assert "sentence-transformers/all-MiniLM-L6-v2 (also all-MiniLM-L6-v2)" in finished.stdout


def test_the_deep_check_runs_every_model(service: Service) -> None:
    with service.client() as client:
        answer = client.get("/health/deep")

    assert answer.status_code == 200
    (checked,) = answer.json()["models"]
    assert checked["model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert (checked["ok"], checked["error"]) == (True, None)
    assert checked["ms"] > 0
