"""A bit of everything that a service does, over and over: searches, rerankings, errors, bulk jobs, callbacks, tenants."""

import threading
import time
from collections.abc import Callable
from itertools import count

import httpx

from tests.helpers.ingest import ndjson
from tests.helpers.service import Service

#: The tenants' keys.
KEYS = ("first-key", "second-key")
#: Documents of a job, and seconds between two jobs.
_JOB_DOCUMENTS, _JOB_EVERY_S = 200, 4.0
_MODEL = "all-MiniLM-L6-v2"


class Load:
    """Threads that ask until the block ends."""

    def __init__(self, service: Service, callback_url: str) -> None:
        self._service = service
        self._callback_url = callback_url
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(step, pause_s), daemon=True)
            for step, pause_s in (
                *((self._search, 0.02),) * 3,
                (self._rerank, 0.05),
                (self._bulk_request, 0.2),
                (self._mistakes, 0.3),
                (self._job, _JOB_EVERY_S),
            )
        ]
        self._numbers = count()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, step: Callable[[httpx.Client], None], pause_s: float) -> None:
        with self._service.client(timeout_s=40) as client:
            while not self._stopping.is_set():
                client.headers["authorization"] = f"Bearer {KEYS[next(self._numbers) % len(KEYS)]}"
                try:
                    step(client)
                except httpx.HTTPError:
                    time.sleep(0.5)  # a client that is told nothing asks again
                self._stopping.wait(pause_s)

    def _search(self, client: httpx.Client) -> None:
        text = f"the mill by the water, number {next(self._numbers)}"
        client.post("/v1/embeddings", json={"model": _MODEL, "input": text}, headers={"x-request-timeout": "10"})

    def _rerank(self, client: httpx.Client) -> None:
        documents = [f"document {number} of a mill" for number in range(8)]
        client.post("/rerank", json={"query": "mill", "documents": documents})

    def _bulk_request(self, client: httpx.Client) -> None:
        texts = ["a long text about mills " * 60] * 8
        client.post("/embed", json={"inputs": texts, "truncate": True}, headers={"x-millrace-lane": "bulk"})

    def _mistakes(self, client: httpx.Client) -> None:
        client.post("/embed", json={"inputs": ""})
        client.post("/embed", json={"inputs": "a"}, headers={"authorization": "Bearer wrong"})
        client.post("/embed", json={"inputs": "too late"}, headers={"x-request-timeout": "0.001"})

    def _job(self, client: httpx.Client) -> None:
        documents = {"webhook": self._callback_url, "model": _MODEL}
        client.post("/v1/ingest", params=documents, content=ndjson(_JOB_DOCUMENTS)).raise_for_status()
