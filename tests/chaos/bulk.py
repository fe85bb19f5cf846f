"""Bulk work beside the interactive load: one job after the other, each read at the end and compared document by document."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.chaos.texts import MODEL, TEXTS, Vectors, decoded, is_close
from tests.helpers.receivers import Received, Receiver
from tests.helpers.service import Service

DOCUMENTS = 2_000
#: How long a request of a job's client is tried again, in seconds.
_PATIENCE_S = 90.0
_PAUSE_S = 0.3


@dataclass(slots=True)
class JobVerdict:
    """What became of a job's documents, by their indices."""

    documents: int
    missing: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    #: Documents that no callback has brought, or more than one.
    callbacks: list[int] = field(default_factory=list)
    trouble: str = ""

    @property
    def is_violation(self) -> bool:
        """Whether not every document is there exactly once, with its own vector."""
        faults = (self.missing, self.doubled, self.failed, self.wrong, self.callbacks)
        return bool(self.trouble) or any(faults)


def judge_job(documents: int, results: Sequence[dict[str, Any]], vectors: Vectors) -> JobVerdict:
    """Compare a job's results with what was sent: document n has the text n modulo the number of texts."""
    seen = Counter(line["index"] for line in results)
    verdict = JobVerdict(
        documents,
        missing=[index for index in range(documents) if index not in seen],
        doubled=[index for index, times in seen.items() if times > 1],
    )
    for line in results:
        index = line["index"]
        if "embedding" not in line:
            verdict.failed.append(index)
        elif line["id"] != f"doc-{index}" or not is_close(decoded(line["embedding"]), vectors[index % len(TEXTS)]):
            verdict.wrong.append(index)
    return verdict


class CallbackTally(Receiver):
    """Receives callbacks and remembers of each event, once, which documents it brought."""

    def __init__(self) -> None:
        super().__init__()
        self._events: dict[str, tuple[str, list[int]]] = {}

    def next_answer(self, request: Received) -> tuple[int, dict[str, str]]:
        """Note the documents of a callback; the same one may come several times."""
        event = orjson.loads(request.body)
        if event["type"] == "job.results":
            documents = [row["index"] for row in event["data"]["results"]]
            self._events[request.event_id] = event["data"]["job_id"], documents
        return self.default

    def of_job(self, job: str) -> Counter[int]:
        """How many callbacks brought each of a job's documents."""
        return Counter(index for owner, indices in list(self._events.values()) if owner == job for index in indices)


class BulkWork:
    """A thread that has one job after the other done."""

    def __init__(self, service: Service, callbacks: CallbackTally, *, documents: int = DOCUMENTS) -> None:
        """Describe the work.

        Args:
            service: Who does it.
            callbacks: Who is called back.
            documents: In each job.
        """
        self._service = service
        self._callbacks = callbacks
        self._documents = documents
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bulk", daemon=True)
        self.jobs: list[str] = []
        #: Why the thread ended before its time.
        self.trouble = ""

    def start(self) -> None:
        """Begin the first job."""
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Begin no further job, and wait for the last."""
        self._stop.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.trouble = self.trouble or f"a job was not done {timeout_s:.0f} s after the end"

    def verdicts(self, vectors: Vectors) -> list[JobVerdict]:
        """What became of each job; the service has to be up."""
        verdicts = [self._verdict(job, vectors) for job in self.jobs]
        if self.trouble:
            verdicts.append(JobVerdict(self._documents, trouble=self.trouble))
        return verdicts

    def _verdict(self, job: str, vectors: Vectors) -> JobVerdict:
        lines = self._patiently("GET", f"/v1/jobs/{job}/results").content.splitlines()
        verdict = judge_job(self._documents, [orjson.loads(line) for line in lines], vectors)
        called_back = self._callbacks.of_job(job)
        verdict.callbacks = [index for index in range(self._documents) if called_back[index] != 1]
        return verdict

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._do_one()
        except Exception as err:  # noqa: BLE001 - the report tells it
            self.trouble = f"{type(err).__name__}: {err}"

    def _do_one(self) -> None:
        documents = b"".join(
            orjson.dumps({"id": f"doc-{index}", "text": TEXTS[index % len(TEXTS)]}, option=orjson.OPT_APPEND_NEWLINE)
            for index in range(self._documents)
        )
        answer = self._patiently(
            "POST",
            "/v1/ingest",
            params={"model": MODEL, "webhook": self._callbacks.url},
            content=documents,
            headers={"content-type": "application/x-ndjson", "idempotency-key": f"chaos-{len(self.jobs)}"},
        )
        job = answer.json()["id"]
        self.jobs.append(job)
        while True:
            shown = self._patiently("GET", f"/v1/jobs/{job}").json()
            if shown["status"] == "completed" and shown["callbacks"]["pending"] == 0:
                return
            if shown["status"] not in ("receiving", "in_progress", "completed"):
                raise RuntimeError(f"{job} has {shown['status']}: {shown}")
            time.sleep(_PAUSE_S)

    def _patiently(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer, as a client gets it that tries again what failed."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self._service.client(timeout_s=30) as client:
                    answer = client.request(method, path, **arguments)
            except httpx.HTTPError as err:
                trouble = repr(err)
            else:
                if answer.status_code < 400:
                    return answer
                trouble = f"{answer.status_code} {answer.text}"
                # A request under way elsewhere ends; everything else that the client is at fault for stays as it is.
                if answer.status_code < 500 and answer.status_code not in (409, 429):
                    raise RuntimeError(f"{method} {path}: {trouble}")
            if time.monotonic() > until:
                raise RuntimeError(f"{method} {path} was tried for {_PATIENCE_S:.0f} s, last: {trouble}")
            time.sleep(_PAUSE_S)
