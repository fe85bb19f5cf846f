"""`python -m bench.flower_cost`: what Flower takes from interactive work.

Two services of the same kind on the same cores. The workers of one tell of each task, and Flower listens to them; those of
the other tell nothing, and nobody listens. Loads alternate between the two, in changing order, and a ratio is taken within a
round. What all processes computed for a text is counted too: it tells the cost even where other work disturbs the clock.
With `--engine null` there is no model, so that the queue path is all that is left to slow down: the worst case.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine, saved
from bench.child import Child
from bench.load import EMBEDDINGS_PATH
from bench.measurement import Measurement, Results, median_of, median_ratio, spread
from bench.plan import HttpLoad
from bench.services import BenchFailed, Service, Stack, get_status, running_stack
from millrace import embedded_redis
from shared.model_config import DEFAULT_MODEL

LOADS = (HttpLoad(64, 1), HttpLoad(8, 32))
#: Most that Flower may take, as a share of the throughput.
ALLOWED = 0.10
_ENGINES = {"real": None, "null": "bench.null_engine"}
_WITH, _WITHOUT = "with Flower", "without"
_WARM_UP_S = 2.0
#: Flower asks the workers about themselves when it starts; that is no part of what is measured.
_SETTLE_S = 3.0
#: Events reach Flower in groups, and a load's last ones after its end.
_EVENTS_S = 0.5

#: Row name → by round, microseconds that each process computed for a text.
Computed = dict[str, list[dict[str, float]]]


class Watched:
    """A service, and Flower if it has one."""

    def __init__(self, name: str, stack: Stack, flower: Service | None) -> None:
        self.name = name
        self.port = stack.port
        self._parts = dict(stack.services) if flower is None else {**stack.services, "flower": flower}

    def cpu_s(self) -> dict[str, float]:
        """What each process has computed so far, in seconds."""
        return {name: service.cpu_s() for name, service in self._parts.items()}


@contextmanager
def running_flower(stack: Stack, folder: Path) -> Iterator[Service]:
    """Start Flower on a service's queue."""
    port = embedded_redis.free_port()
    environment = {"MILLRACE_REDIS_URL": stack.redis_url, "MILLRACE_FLOWER_PORT": str(port)}
    service = Service("flower", [sys.executable, "-m", "millrace.cli", "flower"], environment, folder)
    try:
        service.wait(lambda: get_status(port, "/healthcheck") == 200)
        yield service
    finally:
        service.stop()


@contextmanager
def running_both(engine: str | None, folder: Path) -> Iterator[list[Watched]]:
    """Start a service with Flower and one without."""
    with ExitStack() as running:
        quiet = running.enter_context(
            running_stack(folder / "quiet", engine=engine, settings={"MILLRACE_TASK_EVENTS": "false"})
        )
        told = running.enter_context(running_stack(folder / "told", engine=engine))
        for stack in (quiet, told):
            stack.wait_ready()
        flower = running.enter_context(running_flower(told, folder))
        time.sleep(_SETTLE_S)
        yield [Watched(_WITHOUT, quiet, None), Watched(_WITH, told, flower)]


def measure(services: list[Watched], load: Child, rounds: int, seconds: float) -> tuple[Results, Computed]:
    """Go round; throughput, and what was computed for it."""
    results: Results = defaultdict(list)
    computed: Computed = defaultdict(list)

    def run(service: Watched, what: HttpLoad, for_s: float) -> Measurement:
        found = load.ask(
            "closed_loop",
            port=service.port,
            path=EMBEDDINGS_PATH,
            texts_per_request=what.texts_per_request,
            concurrency=what.concurrency,
            seconds=for_s,
        )
        return Measurement.from_json(found)

    for service in services:
        run(service, LOADS[0], _WARM_UP_S)
    for number in range(rounds):
        for what in LOADS:
            for service in services if number % 2 == 0 else reversed(services):
                before_s = service.cpu_s()
                measured = run(service, what, seconds)
                time.sleep(_EVENTS_S)
                used_s = {name: after - before_s[name] for name, after in service.cpu_s().items()}
                results[row(what, service.name)].append(measured)
                computed[row(what, service.name)].append(
                    {name: 1e6 * cpu_s / measured.texts for name, cpu_s in used_s.items()}
                )
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return results, computed


def row(what: HttpLoad, service: str) -> str:
    """Name of a row."""
    return f"{_name(what)}/{service}"


def ratios(results: Results) -> dict[str, float]:
    """By load, throughput with Flower over that without."""
    return {_name(what): median_ratio(results[row(what, _WITH)], results[row(what, _WITHOUT)]) for what in LOADS}


def cpu_us(computed: Computed, name: str) -> float:
    """What all processes together computed for a text in a row, in microseconds."""
    return median(sum(parts.values()) for parts in computed[name])


def table(results: Results, computed: Computed, where: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"Interactive work with and without Flower, {where['date']}",
        f"{where['cpu']}, {where['cores']} cores, {where['engine']} engine, {DEFAULT_MODEL.name}, medians over "
        f"{where['rounds']} interleaved rounds",
        "",
        f"{'connections x texts':22}{_WITHOUT:>12}{_WITH:>14}{'ratio':>8}{'spread':>14}"
        f"{'CPU µs a text':>18}{'of it Flower':>14}",
        f"{'':22}{'texts/s':>12}{'texts/s':>14}",
    ]
    for what, ratio in zip(LOADS, ratios(results).values(), strict=True):
        without, with_flower = (results[row(what, name)] for name in (_WITHOUT, _WITH))
        speeds = f"{median_of(without, 'texts_per_s'):12,.0f}{median_of(with_flower, 'texts_per_s'):14,.0f}"
        spreads = f"{spread(without):.0%} / {spread(with_flower):.0%}"
        cpu = f"{cpu_us(computed, row(what, _WITHOUT)):,.0f} / {cpu_us(computed, row(what, _WITH)):,.0f}"
        flower = median(parts["flower"] for parts in computed[row(what, _WITH)])
        lines.append(f"{_name(what):22}{speeds}{ratio:8.2f}{spreads:>14}{cpu:>18}{flower:14,.0f}")
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.flower_cost", description="What Flower costs.")
    parser.add_argument("--engine", choices=_ENGINES, default="real", help="null: no model (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one load in one round")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    where = machine.facts() | {"rounds": arguments.rounds, "engine": arguments.engine}
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name, ExitStack() as stack:
            services = stack.enter_context(running_both(_ENGINES[arguments.engine], Path(name)))
            load = stack.enter_context(Child("bench.load", Path(name) / "load.log"))
            others = machine.OtherLoad()
            results, computed = measure(services, load, arguments.rounds, arguments.seconds)
            where["other_load_cores"] = round(others.cores_since(), 2)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    found = ratios(results)
    path = saved.path_for(arguments.json, "flower-cost-")
    rows = {name: [measured.to_json() for measured in rounds] for name, rounds in results.items()}
    saved.save({"machine": where, "ratios": found, "cpu_us_per_text": computed, "rows": rows}, path)
    print(table(results, computed, where))
    print(f"other processes used {where['other_load_cores']} cores meanwhile; written to {path}", file=sys.stderr)
    return 0


def _name(what: HttpLoad) -> str:
    return f"{what.concurrency} x {what.texts_per_request}"


if __name__ == "__main__":
    sys.exit(main())
