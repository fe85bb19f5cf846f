"""What a user, an operator and Prometheus would ask the deployment."""

import json
import re
import time
from collections.abc import Mapping
from urllib.parse import urljoin

import httpx

from tests.helpers.waiting import wait_until

_DOCUMENTS = 300
#: The README's example.
_TEXT, _FIRST_NUMBERS = "The weather is lovely today.", (0.0192, 0.1201, 0.1596)
_JOB_TIMEOUT_S = 180.0
#: Every target is found and scraped within this, in seconds: twice the interval of looking for workers.
_SCRAPED_WITHIN_S = 120.0


def client(url: str) -> httpx.Client:
    """A client of one address."""
    return httpx.Client(base_url=url, timeout=60, trust_env=False)


def embed(gateway: httpx.Client) -> str:
    """A text has the vector of the README."""
    answer = gateway.post("/embed", json={"inputs": _TEXT})
    assert answer.status_code == 200, answer.text
    vector = answer.json()[0]
    assert all(abs(got - told) < 1e-3 for got, told in zip(vector, _FIRST_NUMBERS, strict=False)), vector[:3]
    return f"{len(vector)} dimensions, the README's numbers"


def rerank(gateway: httpx.Client) -> str:
    """The relevant text comes first."""
    body = {"query": "How is the weather?", "texts": ["He drove to the stadium.", "It is so sunny outside!"]}
    answer = gateway.post("/rerank", json=body)
    assert answer.status_code == 200, answer.text
    ranked = answer.json()
    assert [row["index"] for row in ranked] == [1, 0], ranked
    return ", ".join(f"{row['index']}: {row['score']:.3f}" for row in ranked)


def bulk_job(gateway: httpx.Client) -> str:
    """A job gives each of its documents a vector; its id."""
    lines = [json.dumps({"id": f"doc-{n}", "text": f"Page {n} tells of mills."}) for n in range(_DOCUMENTS)]
    content = "\n".join(lines).encode()
    made = gateway.post("/v1/ingest", content=content, headers={"content-type": "application/x-ndjson"})
    assert made.status_code == 202, made.text
    job_id = str(made.json()["id"])
    wait_until(
        lambda: gateway.get(f"/v1/jobs/{job_id}").json()["status"] == "completed",
        timeout_s=_JOB_TIMEOUT_S,
        what="the bulk job",
    )
    results_of(gateway, job_id)
    return job_id


def results_of(gateway: httpx.Client, job_id: str) -> int:
    """The number of a job's results; each document is there exactly once."""
    told = gateway.get(f"/v1/jobs/{job_id}/results")
    assert told.status_code == 200, told.text
    rows = [json.loads(line) for line in told.content.splitlines() if line]
    assert [row["id"] for row in rows] == [f"doc-{n}" for n in range(_DOCUMENTS)]
    assert all(len(row["embedding"]) == 384 for row in rows)
    return len(rows)


def console(gateway: httpx.Client, workers: int) -> str:
    """A browser gets the page with all that it loads, and what the page asks says that all is well.

    Args:
        gateway: A client of it.
        workers: How many there are.
    """
    page = gateway.get("/", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html"), page.headers
    parts = set(re.findall(r'(?:src|href)="([^":#]+\.\w+)"', page.text))
    assert len(parts) >= 3, page.text
    for part in parts:
        assert gateway.get(urljoin("/", part)).status_code == 200, part
    status = gateway.get("/v1/status").raise_for_status().json()
    assert status["problems"] == [], status["problems"]
    assert status["parts"] == {"gateways": 1, "job_runners": 1, "callback_workers": 1}, status["parts"]
    assert [model["ready"] for model in status["models"]] == [True], status["models"]
    assert len(status["workers"]) == workers, status["workers"]
    return f"the page and {len(parts)} files; {workers} workers and no problems"


def flower(url: str, password: str) -> str:
    """Flower shows the worker to whoever has the password, and to nobody else."""
    with client(url) as anybody:
        refused = [anybody.get(path).status_code for path in ("/", "/workers", "/tasks", "/api/workers")]
        wrong = anybody.get("/workers", auth=("operator", "wrong")).status_code
    assert refused == [401] * 4, refused
    assert wrong == 401, wrong
    user, _, secret = password.partition(":")
    with client(url) as operator:

        def workers() -> list[str]:
            answer = operator.get("/api/workers", params={"status": "true"}, auth=(user, secret)).raise_for_status()
            return [name for name, alive in answer.json().items() if alive]

        # A worker's first sign of life to Flower may be some seconds away.
        wait_until(lambda: len(workers()) >= 2, timeout_s=60, what="Flower to know the workers")
        return f"401 without, {len(workers())} workers with the password"


def targets(prometheus: str, jobs: Mapping[str, int]) -> str:
    """Prometheus reaches each target.

    Args:
        prometheus: Its address.
        jobs: How many targets each of its jobs has.
    """
    with client(prometheus) as asked:

        def states() -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for target in asked.get("/api/v1/targets").raise_for_status().json()["data"]["activeTargets"]:
                found.setdefault(target["labels"]["job"], []).append(target["health"])
            return found

        deadline = time.monotonic() + _SCRAPED_WITHIN_S
        expected = {job: ["up"] * number for job, number in jobs.items()}
        while (found := states()) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(1)
        groups = asked.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        receivers = asked.get("/api/v1/alertmanagers").raise_for_status().json()["data"]["activeAlertmanagers"]
        assert groups, "Prometheus has no rules"
        queries = " ".join(rule["query"] for group in groups for rule in group["rules"])
        asked_for = set(re.findall(r'job="([^"]*)"', queries))
        assert asked_for <= set(jobs), f"the rules ask for jobs that nobody scrapes: {asked_for - set(jobs)}"
        assert receivers, "Prometheus knows no Alertmanager"
    return f"{sum(jobs.values())} targets up, {sum(len(group['rules']) for group in groups)} rules, Alertmanager known"
