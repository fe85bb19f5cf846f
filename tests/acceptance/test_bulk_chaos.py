"""A bulk job while its parts are killed: it completes, with each document once, and every callback is as it should be."""

import base64
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pytest
from standardwebhooks import Webhook

from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

DOCUMENTS = 20_000
KILLS = 10
SEED = 5
SECRET = "whsec_" + base64.b64encode(b"millrace-turns-wheels-in-the-night").decode()
TEXTS = [f"The {n}th mill stands by {'fast ' * (n % 7)}water." for n in range(97)]
#: Parts of the service by what their command line ends with; Redis is the embedded one with its append-only file.
PARTS = ("workers", "workers.callbacks", "api", "api.bulk", "valkey")


class Receiver:
    """Receives callbacks, verifies each signature, and now and then is not in the mood."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.attempts = 0
        self.forged: list[str] = []
        verifier = Webhook(SECRET)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.attempts += 1
                try:
                    verifier.verify(body, dict(self.headers))
                except Exception as err:  # noqa: BLE001 - a forged one must not end the receiver
                    receiver.forged.append(repr(err))
                refused = receiver.attempts % 13 == 0
                if not refused:
                    event = orjson.loads(body)
                    kept = receiver.results if event["type"] == "job.results" else receiver.events
                    kept[self.headers["webhook-id"]] = event
                self.send_response(503 if refused else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/vectors"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    service = Service(
        tmp_path,
        {
            "MILLRACE_WEBHOOK_HOSTS": "127.0.0.1",
            "MILLRACE_WEBHOOK_RETRIES_S": "0.5,1,2,4,8,8,8,8,8,8",
            "MILLRACE_JOB_SEGMENT_DOCUMENTS": "128",
        },
    )
    service.start()
    yield service
    service.stop()


def test_ten_kills_lose_and_double_nothing(own_service: Service, receiver: Receiver) -> None:
    # Given a job of twenty thousand documents, sent in parts as a client does that goes on where it was interrupted
    with own_service.client() as client:
        vectors = dict(zip(TEXTS, np.array(client.post("/embed", json={"inputs": TEXTS}).json()), strict=True))
    body = {"model": "all-MiniLM-L6-v2", "webhook": {"url": receiver.url, "secret": SECRET}, "encoding": "base64"}
    job = _patiently(own_service, "POST", "/v1/jobs", json=body).json()["id"]
    stop, kills = threading.Event(), []
    killer = threading.Thread(target=_kill_at_random, args=(own_service, stop, kills))
    killer.start()
    try:
        _send_all(own_service, job)
        # When its parts are killed, ten times
        wait_until(lambda: len(kills) >= KILLS, timeout_s=240, what="the kills")
    finally:
        stop.set()
        killer.join()
    wait_until(lambda: _job(own_service, job)["status"] == "completed", timeout_s=240, what=f"{job} to complete")
    # Then every document is counted once, and stands in the output once, with its own vector
    counts = _job(own_service, job)["counts"]
    assert counts == {"received": DOCUMENTS, "completed": DOCUMENTS, "failed": 0}
    lines = _patiently(own_service, "GET", f"/v1/jobs/{job}/results").content.splitlines()
    results = [orjson.loads(line) for line in lines]
    assert [line["index"] for line in results] == list(range(DOCUMENTS))
    assert [line["id"] for line in results] == [f"doc-{index}" for index in range(DOCUMENTS)]
    for line in results:
        np.testing.assert_allclose(line["embedding"], vectors[TEXTS[line["index"] % len(TEXTS)]], atol=1e-5)
    # And the receiver has every document once too, whatever came twice
    wait_until(lambda: _job(own_service, job)["callbacks"]["pending"] == 0 and receiver.events, timeout_s=180)
    assert receiver.forged == []
    called_back = sorted(row["index"] for event in receiver.results.values() for row in event["data"]["results"])
    assert called_back == list(range(DOCUMENTS))
    assert [event["type"] for event in receiver.events.values()] == ["job.completed"]


def _kill_at_random(service: Service, stop: threading.Event, kills: list[str]) -> None:
    dice = random.Random(SEED)
    order = [PARTS[n % len(PARTS)] for n in range(KILLS)]
    dice.shuffle(order)
    for part in order:
        if stop.wait(dice.uniform(2, 6)):
            return
        victim = None
        while victim is None and not stop.is_set():
            victim = next((process for process in service.processes() if _is(process, part)), None)
            time.sleep(0.1)
        if victim is not None:
            victim.kill()
            kills.append(part)


def _is(process: psutil.Process, part: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return words[-1:] == [part] if part != "valkey" else bool(words) and "valkey" in Path(words[0]).name


def _send_all(service: Service, job: str) -> None:
    documents = [
        orjson.dumps({"id": f"doc-{index}", "text": TEXTS[index % len(TEXTS)]}, option=orjson.OPT_APPEND_NEWLINE)
        for index in range(DOCUMENTS)
    ]
    received = 0
    while received < DOCUMENTS:
        part = documents[received : received + 1000]
        more = received + len(part) < DOCUMENTS
        try:
            with service.client() as client:
                answer = client.post(
                    f"/v1/jobs/{job}/documents",
                    params={"offset": received, "more": more},
                    content=b"".join(part),
                    headers={"content-type": "application/x-ndjson"},
                )
        except httpx.HTTPError:
            answer = None
        if answer is None or answer.status_code >= 400:
            time.sleep(0.3)
        received = _job(service, job)["counts"]["received"]
        time.sleep(0.3)
    # The last part may have been counted without the word that it was the last.
    if _job(service, job)["status"] == "receiving":
        _patiently(
            service, "POST", f"/v1/jobs/{job}/documents", params={"offset": DOCUMENTS, "more": False}, content=b""
        )


def _job(service: Service, job: str) -> dict[str, Any]:
    found: dict[str, Any] = _patiently(service, "GET", f"/v1/jobs/{job}").json()
    return found


def _patiently(service: Service, method: str, path: str, **arguments: Any) -> httpx.Response:
    """An answer below 500, though gateway and Redis come and go."""
    until = time.monotonic() + 60
    while True:
        try:
            with service.client(timeout_s=120) as client:
                answer = client.request(method, path, **arguments)
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
        else:
            if answer.status_code < 400 or (answer.status_code < 500 and time.monotonic() > until):
                return answer
            assert time.monotonic() < until, answer.text
        time.sleep(0.2)
