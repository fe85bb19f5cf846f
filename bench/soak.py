"""`python -m bench.soak`: an ordinary day in twenty minutes, and the memory of every process in it.

Clients that wait for their answers embed one text, embed thirty-two of all lengths, and rerank; a bulk job begins when the
one before it has ended. The first third is left for caches to fill; what matters is the line through the rest.
"""

import argparse
import http.client
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.bulk_job import submit
from bench.services import BenchFailed, Stack, get_json, running_stack
from bench.texts import texts_of

_CLIENTS = 4
_SEED = 17
_TEXTS = 32
_DOCUMENTS = 20
_JOB_DOCUMENTS = 5_000
_SAMPLE_S = 5.0
_POLL_S = 1.0
#: Of the samples, left for caches to fill.
_SETTLING = 1 / 3


class Soak:
    """The load and the samples."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._mix = texts_of("mix")
        self._short = texts_of("short")
        self.answers: Counter[str] = Counter()
        self.jobs = 0
        #: (seconds since the start, MB by process).
        self.samples: list[tuple[float, dict[str, float]]] = []
        #: Why a thread has ended before its time.
        self.broken: list[str] = []

    def run(self, seconds: float) -> None:
        """Load and sample for some seconds.

        Raises:
            BenchFailed: A client or a job could not go on.
        """
        threads = [threading.Thread(target=self._guarded, args=(self._client, number)) for number in range(_CLIENTS)]
        threads.append(threading.Thread(target=self._guarded, args=(self._bulk,)))
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.broken:
            self.samples.append((time.monotonic() - self._started, self._stack.memory_mb()))
            time.sleep(_SAMPLE_S)
        self._stop.set()
        for thread in threads:
            thread.join()
        if self.broken:
            raise BenchFailed(self.broken[0])

    def _guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except (BenchFailed, OSError, http.client.HTTPException) as err:
            self.broken.append(f"{work.__name__}: {err!r}")

    def _client(self, number: int) -> None:
        dice = random.Random(_SEED + number)
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.port, timeout=120)
        while not self._stop.is_set():
            path, body = self._request(dice)
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            self.answers[f"{path} {response.status}"] += 1
        connection.close()

    def _request(self, dice: random.Random) -> tuple[str, dict[str, Any]]:
        kind = dice.random()
        if kind < 0.6:
            return "/v1/embeddings", {"input": dice.choice(self._short)}
        if kind < 0.8:
            texts = dice.sample(self._mix, dice.randint(1, _TEXTS))
            return "/v1/embeddings", {"input": texts, "encoding_format": "base64"}
        documents = dice.sample(self._mix, dice.randint(1, _DOCUMENTS))
        return "/v1/rerank", {"query": dice.choice(self._short), "documents": documents}

    def _bulk(self) -> None:
        while not self._stop.is_set():
            job = submit(self._stack.port, _JOB_DOCUMENTS)
            while (status := get_json(self._stack.port, f"/v1/jobs/{job}")["status"]) != "completed":
                if status not in ("receiving", "in_progress", "finalizing"):
                    raise BenchFailed(f"job {job} is {status}")
                if self._stop.wait(_POLL_S):
                    return
            self.jobs += 1


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Memory over time.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts() | {"minutes": arguments.minutes}
    try:
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
            service = stack.enter_context(running_stack(Path(name) / "stack", engine=None, jobs=True))
            service.wait_ready()
            soak = Soak(service)
            soak.run(60 * arguments.minutes)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    found = {"answers": dict(soak.answers), "jobs": soak.jobs, "samples": soak.samples}
    path = saved.path_for(arguments.json, "soak-")
    saved.save({"machine": where, **found}, path)
    print(_table(soak, where))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _table(soak: Soak, where: dict[str, Any]) -> str:
    answers = ", ".join(f"{count:,} x {what}" for what, count in sorted(soak.answers.items()))
    lines = [
        f"{where['minutes']:.0f} minutes of load, {where['date']}, {where['cpu']}, {where['cores']} cores",
        f"{answers}; {soak.jobs} jobs of {_JOB_DOCUMENTS:,} documents",
        "| process | MB after a third | at the end | most | MB an hour, from a third on |",
        "|---|---|---|---|---|",
    ]
    settled = soak.samples[int(_SETTLING * len(soak.samples)) :]
    for name in soak.samples[0][1]:
        used = [memory[name] for _, memory in settled]
        tenth = max(1, len(used) // 10)
        first, last = statistics.median(used[:tenth]), statistics.median(used[-tenth:])
        hourly = 3600 * _slope([at for at, _ in settled], used)
        lines.append(f"| {name} | {first:.0f} | {last:.0f} | {max(used):.0f} | {hourly:+.0f} |")
    return "\n".join(lines)


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of a straight line through the samples, per second."""
    return statistics.linear_regression(times, values).slope if len(times) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
