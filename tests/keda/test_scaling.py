"""The chart's triggers scale real workers from zero and back by real queues, and nothing is lost on the way.

`make test-keda`. The scaler's loop is a stand-in (`bench.autoscaler`); what it reads is the rendered ScaledObject.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.keys import AWAKE_TTL_S
from tests.helpers.waiting import wait_until
from tests.keda.autoscaled import MODEL, TOKENS_PER_S, VALUES, Autoscaled, autoscaled
from tests.keda.load import Answer, steady

#: About sixteen tokens each.
TEXTS = [f"The river turns the wheel of mill number {number}, and the wheel turns the stone." for number in range(10)]
TOKENS = 10 * 18
#: Requests that one worker answers in a second.
ONE_WORKER = TOKENS_PER_S / TOKENS
SCALING = VALUES["poolDefaults"]["autoscaling"]
#: The chart's own.
DEADLINE_S = 30


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Autoscaled]:
    with autoscaled(tmp_path_factory.mktemp("keda")) as deployment:
        yield deployment


def _assert_answered(answers: list[Answer], deployment: Autoscaled) -> None:
    assert {answer.status for answer in answers} == {200}, deployment.pods.log()[-5000:]
    assert {answer.rows for answer in answers} == {len(TEXTS)}
    assert not deployment.failures
    assert not deployment.pods.died


def _wait_for_zero(deployment: Autoscaled) -> None:
    wait_until(
        lambda: deployment.pods.replicas == 0, timeout_s=SCALING["cooldownPeriod"] + AWAKE_TTL_S + 60, what="no workers"
    )
    wait_until(lambda: len(deployment.pods.ended) > 0, timeout_s=30, what="workers to end")


def test_a_step_of_load_from_idle_is_served_and_nothing_is_lost_when_it_ends(deployment: Autoscaled) -> None:
    # Given no worker and a gateway that is ready
    wait_until(
        lambda: httpx.get(f"{deployment.gateway.url}/readyz", trust_env=False).status_code == 200,
        what="the gateway to be ready",
    )
    assert deployment.pods.replicas == 0

    # When two and a half times a worker's work comes, at once, and later a fifth of a worker's
    url = deployment.gateway.url
    high = asyncio.run(steady(url, per_s=2.5 * ONE_WORKER, for_s=30, texts=TEXTS))
    peak = deployment.most()
    low = asyncio.run(steady(url, per_s=0.2 * ONE_WORKER, for_s=30, texts=TEXTS))
    left = deployment.pods.replicas

    # Then every request is answered: within cold start and deadline while workers start, within the deadline after that
    _assert_answered([*high, *low], deployment)
    assert max(answer.seconds for answer in high) < SCALING["coldStartSeconds"] + DEADLINE_S
    assert max(answer.seconds for answer in low) < DEADLINE_S
    # And there were enough workers for it, and fewer after it, while requests went on
    assert peak >= 3, deployment.history()
    assert 1 <= left < peak, deployment.history()

    # And when nothing comes any more, none, and each of them ended in good order
    _wait_for_zero(deployment)
    pods = deployment.pods
    wait_until(lambda: len(pods.ended) == pods.started, timeout_s=30, what="all workers to have ended")
    assert set(pods.ended) == {0}
    sys.stdout.write(f"replicas {deployment.changes()}\n")
    for name, answers in (("high", high), ("low", low)):
        times = sorted(answer.seconds for answer in answers)
        middle, most = times[len(times) // 2], times[-1]
        sys.stdout.write(f"{name}: {len(times)} requests, {middle:.2f} s at the median, {most:.2f} s at most\n")


def test_a_bulk_job_wakes_its_model_and_lets_it_sleep_again(deployment: Autoscaled) -> None:
    # Given no worker
    _wait_for_zero(deployment)
    before = len(deployment.steps)

    # When somebody hands in documents
    count = 500
    lines = "".join(json.dumps({"id": str(number), "text": TEXTS[number % 10]}) + "\n" for number in range(count))
    with deployment.gateway.client(timeout_s=60) as client:
        answer = client.post(
            "/v1/ingest", params={"model": MODEL}, content=lines, headers={"content-type": "application/x-ndjson"}
        )
        assert answer.status_code in (200, 202), answer.text
        job = answer.json()["id"]

        # Then they are embedded, each of them, and the workers leave
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "completed", timeout_s=120, what="the job")
        found = client.get(f"/v1/jobs/{job}").json()
    assert found["counts"]["completed"] == count, found
    assert max(step.replicas for step in deployment.steps[before:]) >= 1
    _wait_for_zero(deployment)
    assert not deployment.failures
    assert not deployment.pods.died


@pytest.fixture(autouse=True)
def _logs(deployment: Autoscaled, tmp_path: Path) -> Iterator[None]:
    yield
    if deployment.failures:
        sys.stdout.write(deployment.pods.log()[-5000:])
