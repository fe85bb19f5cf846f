"""`python -m bench.overload`: ten times as many requests as the service can answer, for five minutes.

First what it can do: requests of 32 texts on a few connections that wait for their answers. Then the flood. Goodput is
what was answered in time, as a share of what it can do; memory is every process's, before and at its most.

The flood itself takes time of the cores, and so does its refusal. With `--split-cores` the worker has one half of them for
itself, as one with a GPU would, and everything else the other half: then it is told how well the refusing is done.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.load import EMBEDDINGS_PATH
from bench.measurement import Measurement
from bench.services import BenchFailed, Stack, running_stack

_TEXTS = 32
_CONNECTIONS = 8
_CAPACITY_S = 15.0
_SAMPLE_S = 1.0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description="More than can be done.")
    parser.add_argument("--times", type=float, default=10.0, help="of what the service can do")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--timeout", type=float, default=5.0, help="deadline of each request, in seconds")
    parser.add_argument(
        "--split-cores", action="store_true", help="half of the cores for the worker, half for the rest"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts()
    try:
        with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
            folder = Path(name)
            cores = _split() if arguments.split_cores else ()
            service = stack.enter_context(
                running_stack(
                    folder / "stack",
                    engine=None,
                    settings={"MILLRACE_THREADS": str(len(cores))},
                    worker_cores=cores,
                )
            )
            load = stack.enter_context(Child("bench.load", folder / "load.log"))
            patience_s = arguments.seconds + 120
            flood = stack.enter_context(Child("bench.flood", folder / "flood.log", answer_timeout_s=patience_s))
            service.wait_ready()
            found = _measure(service, load, flood, arguments.times, arguments.seconds, arguments.timeout)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "overload-")
    saved.save({"machine": where, "split_cores": arguments.split_cores, **found}, path)
    print(_table(found, where))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _split() -> list[int]:
    """The worker's half of the cores; this process, and what it starts, keep to the others from now on."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    if not half:
        raise BenchFailed("one core cannot be split")
    os.sched_setaffinity(0, cores[half:])
    return cores[:half]


def _measure(stack: Stack, load: Child, flood: Child, times: float, seconds: float, timeout_s: float) -> dict[str, Any]:
    before = _capacity(stack, load)
    memory = Memory(stack)
    at_start = stack.memory_mb()
    with memory:
        flooded = flood.ask(
            "flood",
            port=stack.port,
            rate_per_s=times * before / _TEXTS,
            seconds=seconds,
            texts=_TEXTS,
            timeout_s=timeout_s,
        )
    after = _capacity(stack, load)
    goodput = _TEXTS * flooded["answered_ms"]["count"] / flooded["until_last_s"]
    return {
        "times": times,
        "timeout_s": timeout_s,
        "capacity_texts_per_s": [before, after],
        "goodput_texts_per_s": goodput,
        "goodput": goodput / ((before + after) / 2),
        "flood": flooded,
        "memory_start_mb": at_start,
        "memory_most_mb": memory.most,
    }


def _capacity(stack: Stack, load: Child) -> float:
    """Texts per second, answered to clients who wait."""
    arguments = {"port": stack.port, "path": EMBEDDINGS_PATH, "texts_per_request": _TEXTS, "concurrency": _CONNECTIONS}
    load.ask("closed_loop", **arguments, seconds=3.0)  # warm
    return Measurement.from_json(load.ask("closed_loop", **arguments, seconds=_CAPACITY_S)).texts_per_s


class Memory:
    """Every process's resident memory, sampled while the block runs."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.most: dict[str, float] = {}

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            for name, used in self._stack.memory_mb().items():
                self.most[name] = max(used, self.most.get(name, 0.0))


def _table(found: dict[str, Any], where: dict[str, Any]) -> str:
    flooded = found["flood"]
    answered, refused, retry = flooded["answered_ms"], flooded["refused_ms"], flooded["retry_after_s"]
    before, after = found["capacity_texts_per_s"]
    statuses = ", ".join(f"{count:,} x {status}" for status, count in flooded["statuses"].items())
    memory = ", ".join(
        f"{name} {at_start:.0f} → {found['memory_most_mb'][name]:.0f}"
        for name, at_start in found["memory_start_mb"].items()
    )
    lines = [
        f"{found['times']:.0f} times the capacity for {flooded['seconds']:.0f} s, {where['date']}, {where['cpu']}, "
        f"{where['cores']} cores",
        f"capacity {before:,.0f} texts/s before, {after:,.0f} after; goodput {found['goodput_texts_per_s']:,.0f}, "
        f"{found['goodput']:.2f} of it",
        f"answers: {statuses}",
    ]
    if answered["count"]:
        lines.append(
            f"admitted: p50 {answered['p50']:,.0f} ms, p99 {answered['p99']:,.0f} ms, most {answered['max']:,.0f} ms; "
            f"deadline {1000 * found['timeout_s']:,.0f} ms"
        )
    if refused["count"]:
        lines.append(
            f"refused after p50 {refused['p50']:,.1f} ms, p99 {refused['p99']:,.0f} ms; retry-after {retry['p50']:.0f} s at "
            f"the median, {retry['max']:.0f} s at most"
        )
    return "\n".join([*lines, f"memory, MB: {memory}"])


if __name__ == "__main__":
    sys.exit(main())
