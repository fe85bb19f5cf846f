"""`python -m bench.bulk_search`: what a bulk job does to people who search, and what they do to it.

One service with the real model. Searches of one text arrive at random, five a second: first on an idle service, then while
a bulk job saturates the worker, in turns with stretches in which the job has the service to itself. Beside it the bare
engine embeds the same texts, so that the job's throughput has something to be held against.
"""

import argparse
import http.client
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench import machine, saved
from bench.bulk_job import submit
from bench.child import Child
from bench.measurement import Measurement, percentile
from bench.services import BenchFailed, Stack, get_json, running_stack
from bench.texts import short_texts

_SEARCHES_PER_S = 5.0
_SEED = 11
#: More than the job gets through while it is measured.
_DOCUMENTS = 400_000
_SAMPLE_S = 0.5
#: Time for the job to fill the worker's queue, in seconds.
_SETTLE_S = 5.0


@dataclass(slots=True)
class Searches:
    """Searches that somebody makes in the background; latency counts from the time at which one was due."""

    port: int
    started: float
    #: (when it was due, seconds since the start; latency in ms).
    answered: list[tuple[float, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float) -> list[float]:
        """Search for some seconds; the latencies in ms."""
        dice = random.Random(_SEED + len(self.answered))
        texts = short_texts()
        first = len(self.answered)
        threads: list[threading.Thread] = []
        due, until = time.monotonic(), time.monotonic() + seconds
        while (due := due + dice.expovariate(_SEARCHES_PER_S)) < until:
            time.sleep(max(0.0, due - time.monotonic()))
            threads.append(threading.Thread(target=self._search, args=(dice.choice(texts), due)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return [latency for _, latency in self.answered[first:]]

    def _search(self, text: str, due: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = orjson.dumps({"input": text, "encoding_format": "base64"})
        connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status == 200:
            self.answered.append((due - self.started, (time.monotonic() - due) * 1000))


@dataclass(slots=True)
class Progress:
    """The job's count of finished documents, sampled in the background."""

    port: int
    job: str
    started: float
    samples: list[tuple[float, int]] = field(default_factory=list)

    def watch(self, stop: threading.Event) -> None:
        """Sample until told to stop."""
        while not stop.wait(_SAMPLE_S):
            done = get_json(self.port, f"/v1/jobs/{self.job}")["counts"]["completed"]
            self.samples.append((time.monotonic() - self.started, done))

    def rate(self, since: float, until: float) -> float:
        """Documents per second between two times: the slope of a straight line through the samples."""
        times, counts = zip(*[sample for sample in self.samples if since <= sample[0] <= until], strict=True)
        return statistics.linear_regression(times, counts).slope


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.bulk_search", description="A bulk job beside searches.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=25.0, help="length of one stretch")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw it (needs matplotlib)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts() | {"rounds": arguments.rounds, "seconds": arguments.seconds}
    try:
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
            folder = Path(name)
            # Small segments, so that the count rises in small steps.
            settings = {"MILLRACE_JOB_SEGMENT_DOCUMENTS": "64"}
            service = stack.enter_context(running_stack(folder / "stack", engine=None, jobs=True, settings=settings))
            forward = stack.enter_context(Child("bench.forward", folder / "forward.log"))
            service.wait_ready()
            found = _measure(service, forward, arguments.rounds, arguments.seconds)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "bulk-search-")
    saved.save({"machine": where, **found}, path)
    print(_table(found, where))
    if arguments.plot:
        from bench.bulk_search_plot import draw

        draw(found, arguments.plot)
    print(f"written to {path}", file=sys.stderr)
    return 0


def _measure(stack: Stack, forward: Child, rounds: int, seconds: float) -> dict[str, Any]:
    forward.ask("describe")
    started = time.monotonic()
    searches = Searches(stack.port, started)
    searches.run(3.0)  # warm
    bare: list[float] = []
    idle: list[float] = []
    stretches: list[dict[str, Any]] = []
    for _ in range(rounds):
        bare += [Measurement.from_json(forward.ask("packed")).texts_per_s for _ in range(3)]
        begun = time.monotonic() - started
        idle += searches.run(seconds)
        stretches.append({"what": "idle", "from": begun, "to": time.monotonic() - started})
    progress = Progress(stack.port, submit(stack.port, _DOCUMENTS), started)
    stop = threading.Event()
    watcher = threading.Thread(target=progress.watch, args=(stop,))
    watcher.start()
    time.sleep(_SETTLE_S)
    alone: list[float] = []
    beside: list[float] = []
    busy: list[float] = []
    try:
        for _ in range(rounds):
            begun = time.monotonic() - started
            time.sleep(seconds)
            alone.append(progress.rate(begun, time.monotonic() - started))
            stretches.append({"what": "bulk alone", "from": begun, "to": time.monotonic() - started})
            begun = time.monotonic() - started
            busy += searches.run(seconds)
            beside.append(progress.rate(begun, time.monotonic() - started))
            stretches.append({"what": "bulk and searches", "from": begun, "to": time.monotonic() - started})
    finally:
        stop.set()
        watcher.join()
    batch_ms = _batch_ms(stack)
    return {
        "bare_texts_per_s": statistics.median(bare),
        "bulk_alone_per_s": alone,
        "bulk_beside_searches_per_s": beside,
        "batch_ms": batch_ms,
        "idle_ms": _latencies(idle),
        "busy_ms": _latencies(busy),
        "stretches": stretches,
        "searches": searches.answered,
        "progress": progress.samples,
    }


def _latencies(values: Sequence[float]) -> dict[str, float]:
    return {"count": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def _batch_ms(stack: Stack) -> float:
    """Mean time of a forward pass, from the worker's own metrics."""
    text = stack.worker_metrics()
    values = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("millrace_batch_duration_seconds_")
    )
    total = sum(float(value) for name, value in values.items() if "_sum{" in name)
    count = sum(float(value) for name, value in values.items() if "_count{" in name)
    return 1000 * total / max(1.0, count)


def _table(found: dict[str, Any], where: dict[str, Any]) -> str:
    alone, beside = (statistics.median(found[name]) for name in ("bulk_alone_per_s", "bulk_beside_searches_per_s"))
    idle, busy, bare = found["idle_ms"], found["busy_ms"], found["bare_texts_per_s"]
    allowed = idle["p99"] + 2 * found["batch_ms"]
    return "\n".join(
        [
            f"A bulk job beside {_SEARCHES_PER_S:.0f} searches/s, {where['date']}, {where['cpu']}, {where['cores']} cores",
            f"bare engine {bare:,.0f} texts/s; bulk job alone {alone:,.0f} ({alone / bare:.2f} of it), "
            f"beside searches {beside:,.0f} ({1 - beside / alone:.0%} less)",
            f"search, idle service: p50 {idle['p50']:.1f} ms, p99 {idle['p99']:.1f} ms ({idle['count']})",
            f"search, beside the job: p50 {busy['p50']:.1f} ms, p99 {busy['p99']:.1f} ms ({busy['count']})",
            f"one batch takes {found['batch_ms']:.1f} ms; idle p99 + 2 batches = {allowed:.1f} ms",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
