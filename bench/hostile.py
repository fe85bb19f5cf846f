"""`python -m bench.hostile`: what hostile requests do to the searches beside them, and what harmless ones do.

One service with the default model, and a small model of every other kind. In each round searches, ten a second, have the
service to themselves; then harmless requests run beside them, the documented examples of all routes; and then hostile ones,
which are made of those (`tests.helpers.hostile`). Both kinds come from one process, so many at a time: a search always waits
for valid work that came before it, so that a hostile request has to be held against a harmless one.
"""

import argparse
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.load import EMBEDDINGS_PATH
from bench.measurement import percentile
from bench.services import BenchFailed, Stack, post, running_stack
from bench.texts import short_texts
from tests.fuzz.models import models

_SEARCH_EVERY_S = 0.1
_ALONE_S = 8.0
_KINDS = ("harmless", "hostile")
_SEND_TIMEOUT_S = 900.0


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description="Hostile requests beside searches.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind in a round")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 24], help="how many at a time")
    parser.add_argument("--json", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts()
    try:
        with ExitStack() as running, tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
            folder = Path(name)
            settings = {"MILLRACE_MODEL": ",".join(models(folder / "models"))}
            stack = running.enter_context(running_stack(folder / "stack", engine=None, jobs=True, settings=settings))
            sender = running.enter_context(
                Child("bench.hostile_sender", folder / "sender.log", answer_timeout_s=_SEND_TIMEOUT_S)
            )
            stack.wait_ready()
            found = _measure(stack, sender, arguments.rounds, arguments.requests, arguments.in_flight)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "hostile-")
    saved.save({"machine": where, "requests": arguments.requests, "rounds": found}, path)
    print(_table(found, where))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _measure(stack: Stack, sender: Child, rounds: int, count: int, in_flight: Sequence[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with _Searching(stack.port):
        time.sleep(_ALONE_S)  # warm
    for number in range(rounds):
        for together in in_flight:
            with _Searching(stack.port) as alone:
                time.sleep(_ALONE_S)
            row: dict[str, Any] = {"in_flight": together, "alone": _of(alone.latencies_ms)}
            # Every second round the other way round, so that a drift of the machine favours nobody.
            for kind in _KINDS if number % 2 == 0 else reversed(_KINDS):
                print(f"round {number + 1}: {kind}, {together} at a time", file=sys.stderr)
                sender.ask("make", port=stack.port, kind=kind, seed=number, count=count)
                with _Searching(stack.port) as searching:
                    started = time.perf_counter()
                    row[kind] = sender.ask("send", port=stack.port, in_flight=together)
                    row[kind]["seconds"] = time.perf_counter() - started
                row[kind] |= _of(searching.latencies_ms)
                if row[kind]["hanging"]:
                    raise BenchFailed(f"{row[kind]['hanging']} {kind} requests were not answered")
            found.append(row)
    return found


class _Searching:
    """Searches at an even rate in the background, while the block runs; one that is late does not delay the next."""

    def __init__(self, port: int) -> None:
        self.latencies_ms: list[float] = []
        self._port = port
        self._failed: list[BenchFailed] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "_Searching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        texts = short_texts()
        threads: list[threading.Thread] = []
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            threads.append(threading.Thread(target=self._search, args=(texts[len(threads) % len(texts)], due)))
            threads[-1].start()
            due += _SEARCH_EVERY_S
        for thread in threads:
            thread.join()

    def _search(self, text: str, due: float) -> None:
        try:
            post(self._port, EMBEDDINGS_PATH, {"input": text})
        except BenchFailed as err:
            self._failed.append(err)
        else:
            self.latencies_ms.append((time.monotonic() - due) * 1000)


def _of(latencies_ms: Sequence[float]) -> dict[str, float]:
    return {
        "searches": len(latencies_ms),
        "median_ms": round(statistics.median(latencies_ms), 1),
        "p99_ms": round(percentile(latencies_ms, 0.99), 1),
    }


def _table(found: Sequence[dict[str, Any]], where: dict[str, Any]) -> str:
    lines = [
        "Searches, ms at the median and at 99 % of them, medians of the rounds",
        f"{where['date']}, {where['cpu']}, {where['cores']} cores",
        f"{'at a time':>10}{'alone':>16}{'harmless':>16}{'hostile':>16}{'hostile / harmless':>20}{'hostile / alone':>18}",
    ]
    for together in dict.fromkeys(row["in_flight"] for row in found):
        rows = [row for row in found if row["in_flight"] == together]
        columns = "".join(f"{_cell(rows, kind):>16}" for kind in ("alone", *_KINDS))
        ratios = f"{_ratio(rows, 'harmless'):>20}{_ratio(rows, 'alone'):>18}"
        lines.append(f"{together:>10}{columns}{ratios}")
    return "\n".join(lines)


def _cell(rows: Sequence[dict[str, Any]], kind: str) -> str:
    return " / ".join(f"{statistics.median(row[kind][name] for row in rows):.0f}" for name in ("median_ms", "p99_ms"))


def _ratio(rows: Sequence[dict[str, Any]], kind: str) -> str:
    ratios = ([row["hostile"][name] / row[kind][name] for row in rows] for name in ("median_ms", "p99_ms"))
    return " / ".join(f"{statistics.median(ratio):.1f}" for ratio in ratios)


if __name__ == "__main__":
    sys.exit(main())
