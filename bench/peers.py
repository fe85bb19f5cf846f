"""`python -m bench.peers --infinity PYTHON`: Millrace beside Infinity, both over HTTP, in one interleaved run.

Infinity has dependencies that cannot share an environment with ours; `make bench-peers` gives it one of its own. Both serve
the same weights on all cores of this machine; while one is measured the other has nothing to do.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.load import EMBEDDINGS_PATH
from bench.measurement import Measurement, Results, median_of, median_ratio, spread
from bench.services import BenchFailed, Service, get_status, running_stack
from millrace import embedded_redis
from shared.model_config import DEFAULT_MODEL
from workers.weights import local_folder

_INFINITY_PATH = "/embeddings"
_DTYPES = ("float32", "bfloat16")
_WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """A closed-loop load of one kind of texts."""

    texts: str
    concurrency: int
    texts_per_request: int
    what: str

    @property
    def name(self) -> str:
        """How rows call it."""
        return f"{self.concurrency} x {self.texts_per_request} {self.what}"


LOADS = (
    Load("short", 1, 1, "short"),
    Load("short", 16, 1, "short"),
    Load("short", 64, 1, "short"),
    Load("short", 8, 32, "short"),
    Load("mix", 8, 32, "mixed lengths"),
    Load("256", 16, 1, "of 256 tokens"),
    Load("256", 4, 32, "of 256 tokens"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    port: int
    path: str


@contextmanager
def running_infinity(python: str, dtype: str, folder: Path) -> Iterator[Server]:
    """Start Infinity on the default model; its own defaults but for what a closed network and the CPU need."""
    port = embedded_redis.free_port()
    words = [
        str(Path(python).with_name("infinity_emb")),
        "v2",
        "--model-id",
        str(local_folder(DEFAULT_MODEL)),
        "--engine",
        "torch",
    ]
    words += ["--device", "cpu", "--dtype", dtype, "--port", str(port), "--host", "127.0.0.1"]
    environment = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    service = Service(f"infinity-{dtype}", [*words, "--no-bettertransformer"], environment, folder)
    try:
        service.wait(lambda: get_status(port, "/health") == 200)
        yield Server(f"infinity {dtype}", port, _INFINITY_PATH)
    finally:
        service.stop()


@contextmanager
def running_millrace(dtype: str, folder: Path) -> Iterator[Server]:
    """Start the service on the default model."""
    settings = {"MILLRACE_DTYPE": dtype, "MILLRACE_DEVICE": "cpu"}
    with running_stack(folder / f"millrace-{dtype}", engine=None, settings=settings) as stack:
        stack.wait_ready()
        yield Server(f"millrace {dtype}", stack.port, EMBEDDINGS_PATH)


def measure(servers: list[Server], load: Child, rounds: int, seconds: float) -> Results:
    """Go round: within a round every server sees each load in turn, in changing order."""
    results: Results = defaultdict(list)

    def run(server: Server, what: Load, for_s: float) -> Measurement:
        found = load.ask(
            "closed_loop",
            port=server.port,
            path=server.path,
            texts_per_request=what.texts_per_request,
            concurrency=what.concurrency,
            seconds=for_s,
            texts=what.texts,
        )
        return Measurement.from_json(found)

    for server in servers:
        run(server, LOADS[0], _WARM_UP_S)
    for number in range(rounds):
        for what in LOADS:
            for server in servers if number % 2 == 0 else reversed(servers):
                results[f"{what.name}/{server.name}"].append(run(server, what, seconds))
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return results


def table(results: Results, where: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"Millrace beside Infinity {where['infinity']} over HTTP, {where['date']}",
        f"{where['cpu']}, {where['cores']} cores, {DEFAULT_MODEL.name}, medians over {where['rounds']} interleaved rounds",
        "",
        f"{'connections x texts a request':34}{'dtype':>10}{'millrace':>12}{'infinity':>12}{'ratio':>8}{'spread':>14}",
        f"{'':44}{'texts/s':>12}{'texts/s':>12}",
    ]
    for what in LOADS:
        for dtype in _DTYPES:
            ours, theirs = (results.get(f"{what.name}/{name} {dtype}") for name in ("millrace", "infinity"))
            if not ours or not theirs:
                continue
            speeds = f"{median_of(ours, 'texts_per_s'):12,.0f}{median_of(theirs, 'texts_per_s'):12,.0f}"
            spreads = f"{spread(ours):.0%} / {spread(theirs):.0%}"
            lines.append(f"{what.name:34}{dtype:>10}{speeds}{median_ratio(ours, theirs):8.2f}{spreads:>14}")
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Millrace beside Infinity.")
    parser.add_argument("--infinity", required=True, metavar="PYTHON", help="interpreter that has infinity_emb")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one load in one round")
    parser.add_argument("--dtypes", default="float32", help=f"comma-separated, out of {', '.join(_DTYPES)}")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts() | {"rounds": arguments.rounds, "infinity": _infinity_version(arguments.infinity)}
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name, ExitStack() as stack:
            folder, servers = Path(name), []
            for dtype in arguments.dtypes.split(","):
                servers.append(stack.enter_context(running_millrace(dtype, folder)))
                servers.append(stack.enter_context(running_infinity(arguments.infinity, dtype, folder)))
            load = stack.enter_context(Child("bench.load", folder / "load.log"))
            others = machine.OtherLoad()
            results = measure(servers, load, arguments.rounds, arguments.seconds)
            where["other_load_cores"] = round(others.cores_since(), 2)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "peers-")
    rows = {name: [measured.to_json() for measured in rounds] for name, rounds in results.items()}
    saved.save({"machine": where, "rows": rows}, path)
    print(table(results, where))
    print(f"other processes used {where['other_load_cores']} cores meanwhile; written to {path}", file=sys.stderr)
    return 0


def _infinity_version(python: str) -> str:
    import subprocess

    code = "from importlib.metadata import version; print(version('infinity_emb'))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
