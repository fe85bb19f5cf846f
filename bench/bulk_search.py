"""`python -m bench.bulk_search`: what a bulk job does to people who search, and what they do to it.

One service with the real model. In each round searches of one text arrive at random, five a second, on an idle service; then
a bulk job has the service to itself; and then searches come while it goes on. Before and after the job the bare engine
embeds the same texts, so that the job's throughput has something to be held against.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench import machine, saved
from bench.bulk_job import submit
from bench.child import Child
from bench.measurement import Measurement, percentile
from bench.services import BenchFailed, Stack, get_json, post, running_stack
from bench.texts import short_texts

_SEARCHES_PER_S = 5.0
_SEED = 11
#: More documents than a job gets through in a second.
_MOST_PER_S = 2000
#: Of the bare engine in a round.
_PASSES = 5
_SAMPLE_S = 0.5
#: Time for the job to fill the worker's queue, and for the worker to find that nobody searches, in seconds.
_SETTLE_S = 8.0
#: Time for a cancelled job to end, in seconds.
_CANCEL_S = 30.0


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
    """The count of texts that the worker has run, sampled in the background."""

    stack: Stack
    started: float
    samples: list[tuple[float, float]] = field(default_factory=list)

    def watch(self, stop: threading.Event) -> None:
        """Sample until told to stop."""
        while not stop.wait(_SAMPLE_S):
            done = _total(self.stack, "millrace_batch_items_sum")
            self.samples.append((time.monotonic() - self.started, done))

    def rate(self, stretch: Mapping[str, Any]) -> float:
        """Texts per second in a stretch: the slope of a straight line through the samples."""
        inside = [sample for sample in self.samples if stretch["from"] <= sample[0] <= stretch["to"]]
        times, counts = zip(*inside, strict=True)
        return statistics.linear_regression(times, counts).slope


@dataclass(slots=True)
class Batches:
    """Forward passes while a job runs beside searches, from the worker's own metrics."""

    stack: Stack
    _seconds: float = 0.0
    _count: float = 0.0

    def begin(self) -> None:
        """Count from here ..."""
        self._add(-1)

    def end(self) -> None:
        """... to here."""
        self._add(1)

    @property
    def mean_ms(self) -> float:
        """Their mean time; those of a search alone are among them."""
        return 1000 * self._seconds / max(1.0, self._count)

    def _add(self, sign: int) -> None:
        name = "millrace_batch_duration_seconds"
        self._seconds += sign * _total(self.stack, f"{name}_sum")
        self._count += sign * _total(self.stack, f"{name}_count")


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
            service = stack.enter_context(running_stack(folder / "stack", engine=None, jobs=True))
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
    alone: list[float] = []
    beside: list[float] = []
    busy: list[float] = []
    progress = Progress(stack, started)
    batches = Batches(stack)
    stop = threading.Event()
    watcher = threading.Thread(target=progress.watch, args=(stop,))
    watcher.start()

    @contextmanager
    def stretch(what: str) -> Iterator[None]:
        begun = time.monotonic() - started
        yield
        stretches.append({"what": what, "from": begun, "to": time.monotonic() - started})

    try:
        for _ in range(rounds):
            with stretch("idle"):
                idle += searches.run(seconds)
            passes = _passes(forward)
            job = submit(stack.port, int(_MOST_PER_S * (_SETTLE_S + 2 * seconds)))
            time.sleep(_SETTLE_S)
            with stretch("bulk alone"):
                time.sleep(seconds)
            alone.append(progress.rate(stretches[-1]))
            batches.begin()
            with stretch("bulk and searches"):
                latencies = searches.run(seconds)
            batches.end()
            busy += latencies
            beside.append(progress.rate(stretches[-1]) - len(latencies) / seconds)
            _cancel(stack.port, job)
            # Before and after the job, since a shared host is faster at one time than at another.
            bare.append(statistics.median([*passes, *_passes(forward)]))
    finally:
        stop.set()
        watcher.join()
    return {
        "bare_texts_per_s": bare,
        "bulk_alone_per_s": alone,
        "bulk_beside_searches_per_s": beside,
        "batch_ms": batches.mean_ms,
        "idle_ms": _latencies(idle),
        "busy_ms": _latencies(busy),
        "stretches": stretches,
        "searches": searches.answered,
        "progress": progress.samples,
    }


def _passes(forward: Child) -> list[float]:
    """Texts per second of the bare engine, some times."""
    return [Measurement.from_json(forward.ask("packed")).texts_per_s for _ in range(_PASSES)]


def _cancel(port: int, job: str) -> None:
    """Stop a job, and wait until the worker has nothing of it any more."""
    post(port, f"/v1/jobs/{job}/cancel", {})
    give_up_at = time.monotonic() + _CANCEL_S
    while (status := get_json(port, f"/v1/jobs/{job}")["status"]) != "cancelled":
        if time.monotonic() > give_up_at:
            raise BenchFailed(f"job {job} is {status}, {_CANCEL_S:.0f} s after it was cancelled")
        time.sleep(_SAMPLE_S)
    time.sleep(_SETTLE_S)


def _latencies(values: Sequence[float]) -> dict[str, float]:
    return {"count": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values)}


def _total(stack: Stack, name: str) -> float:
    """Sum of the worker's samples of a metric."""
    lines = stack.worker_metrics().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def _table(found: dict[str, Any], where: dict[str, Any]) -> str:
    bare, alone, beside = (
        found[name] for name in ("bare_texts_per_s", "bulk_alone_per_s", "bulk_beside_searches_per_s")
    )
    of_bare = statistics.median(mine / theirs for mine, theirs in zip(alone, bare, strict=True))
    lost = statistics.median(1 - with_searches / without for with_searches, without in zip(beside, alone, strict=True))
    idle, busy = found["idle_ms"], found["busy_ms"]
    allowed = idle["p99"] + 2 * found["batch_ms"]
    return "\n".join(
        [
            f"A bulk job beside {_SEARCHES_PER_S:.0f} searches/s, {where['date']}, {where['cpu']}, {where['cores']} cores",
            f"bare engine {statistics.median(bare):,.0f} texts/s; bulk job alone {statistics.median(alone):,.0f} "
            f"({of_bare:.2f} of it), beside searches {statistics.median(beside):,.0f} ({lost:.0%} less)",
            f"search, idle service: p50 {idle['p50']:.1f} ms, p99 {idle['p99']:.1f} ms ({idle['count']})",
            f"search, beside the job: p50 {busy['p50']:.1f} ms, p99 {busy['p99']:.1f} ms ({busy['count']})",
            f"one batch takes {found['batch_ms']:.1f} ms; idle p99 + 2 batches = {allowed:.1f} ms",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
