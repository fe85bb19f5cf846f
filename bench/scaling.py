"""`python -m bench.scaling`: what the chart's scaling does with a step, a ramp and a day of load, simulated.

The scaler is the one of `make test-keda` and reads the rendered ScaledObject; the service is a fluid model of the real one:

- work waits in gateways, which keep W tasks per worker in flight (`tasksInFlightPerWorker`), each of at most one batch;
- a worker holds three batches, so that what the list shows is what is in flight without that;
- a worker computes so many tokens a second, and is there when its cold start is over;
- requests are answered in their order, and refused when the wait would be longer than 0.8 of deadline and start budget.

Nothing is measured here but the consequences of rates that were measured elsewhere: `--tokens-per-s` and `--cold-start`.
"""

import argparse
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from api.admission import SHARE
from bench.autoscaler import Autoscaler, Scaling, scaling_of
from bench.saved import path_for, save
from shared.keys import AWAKE_TTL_S
from tests.helpers.chart import find, merged, rendered

#: The simulation's step, in seconds.
TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class Plant:
    """What is scaled."""

    #: Of one worker.
    tokens_per_s: float
    #: Token budget of a batch.
    batch_tokens: float
    #: From being wanted to answering, in seconds.
    cold_start_s: float
    gateways: int
    tasks_in_flight_per_worker: int
    #: Deadline of a request, in seconds, and what it has more while workers start (`coldStartSeconds`).
    timeout_s: float
    cold_start_budget_s: float
    #: Batches that a worker holds.
    held_batches: float = 3.0
    #: How old what Prometheus says may be, in seconds: the chart's monitors scrape so often.
    scrape_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens per second that arrive, over time, in units of what one worker computes."""

    name: str
    seconds: float
    workers: Callable[[float], float]


def _step(at: float) -> float:
    return 3.0 if 60 <= at < 1260 else 0.0


def _ramp(at: float) -> float:
    return 6.0 * max(0.0, 1 - abs(at - 2400) / 1800)


def _day(at: float) -> float:
    """Little at night, a peak before noon and another in the afternoon."""
    hour = at / 3600
    peaks = math.exp(-(((hour - 10.5) / 2.2) ** 2)) + 0.8 * math.exp(-(((hour - 15.5) / 2.2) ** 2))
    return 4.5 * peaks + (0.05 if 6 <= hour < 22 else 0.0)


LOADS = (Load("step", 2700, _step), Load("ramp", 5400, _ramp), Load("day", 86_400, _day))


@dataclass(slots=True)
class Run:
    """What came of a load."""

    load: str
    triggers: str
    #: Every so many seconds.
    every_s: float
    arriving: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    listed: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)
    #: Of all work: share that was refused, and that waited longer than the deadline without a start budget; wait at the
    #: median, the 99th percentile, and at most.
    refused: float = 0.0
    late: float = 0.0
    p50_s: float = 0.0
    p99_s: float = 0.0
    most_s: float = 0.0
    changes: int = 0
    #: Worker-hours that were paid for, and that the load would fill.
    worker_hours: float = 0.0
    needed_hours: float = 0.0


class Simulation:
    """A pool under load."""

    def __init__(self, scaling: Scaling, plant: Plant, load: Load, seed: int = 0) -> None:
        self._scaling, self._plant, self._load = scaling, plant, load
        self._autoscaler = Autoscaler(scaling)
        self._random = np.random.default_rng(seed)
        #: Tokens that wait, with the time at which they came.
        self._waiting: deque[list[float]] = deque()
        self._queued = 0.0
        self._starting: list[float] = []
        self._ready = 0
        self._busy: deque[float] = deque(maxlen=int(60 / TICK_S))
        self._waits: list[tuple[float, float]] = []
        self._arrived = self._refused = 0.0
        self._asked_at = -math.inf
        #: What Prometheus has seen last, and when.
        self._scraped: dict[str, float] = {}
        self._scraped_at = -math.inf

    def run(self, triggers: str) -> Run:
        """Everything that happens."""
        every_s = max(1.0, self._load.seconds / 1000)
        run = Run(self._load.name, triggers, every_s)
        next_at = 0.0
        for tick in range(int(self._load.seconds / TICK_S)):
            now = tick * TICK_S
            rate = self._load.workers(now)
            self._arrive(rate, now)
            self._serve(now)
            before = self._replicas
            self._scale(now)
            run.changes += self._replicas != before
            run.worker_hours += self._replicas * TICK_S / 3600
            run.needed_hours += rate * TICK_S / 3600
            if now >= next_at:
                next_at += every_s
                run.arriving.append(round(rate, 3))
                run.replicas.append(self._replicas)
                run.ready.append(self._ready)
                run.listed.append(round(self._listed(), 1))
                run.wait_s.append(round(now - self._waiting[0][0], 2) if self._waiting else 0.0)
        self._judge(run)
        return run

    @property
    def _replicas(self) -> int:
        return self._ready + len(self._starting)

    def _arrive(self, rate: float, now: float) -> None:
        """Requests of a tenth of a batch each, at random; admission refuses what would be late."""
        size = self._plant.batch_tokens / 10
        tokens = size * self._random.poisson(rate * self._plant.tokens_per_s * TICK_S / size)
        if not tokens:
            return
        self._arrived += tokens
        self._asked_at = now
        # Where workers are on their way, requests wait so much longer.
        if self._ready and self._wait() > SHARE * (self._plant.timeout_s + self._plant.cold_start_budget_s):
            self._refused += tokens
            return
        self._waiting.append([now, tokens])
        self._queued += tokens

    def _wait(self) -> float:
        return self._queued / (self._ready * self._plant.tokens_per_s) if self._ready else 0.0

    def _serve(self, now: float) -> None:
        room = self._ready * self._plant.tokens_per_s * TICK_S
        served = min(room, self._queued)
        # What a worker computes: with less than is there to do it is idle for the rest.
        self._busy.append(self._ready * served / room if room else 0.0)
        left = served
        while left > 1e-9 and self._waiting:
            came, tokens = self._waiting[0]
            part = min(tokens, left)
            left -= part
            self._waits.append((now - came + self._plant.batch_tokens / self._plant.tokens_per_s, part))
            if tokens - part < 1e-6:
                self._waiting.popleft()
            else:
                self._waiting[0][1] -= part
        self._queued = max(0.0, self._queued - served)

    def _listed(self) -> float:
        """Tasks in the list: what gateways have in flight, without what workers hold."""
        plant = self._plant
        window = plant.gateways * plant.tasks_in_flight_per_worker * max(1, self._ready)
        in_flight = min(window, math.ceil(self._queued / plant.batch_tokens))
        return float(max(0, in_flight - math.floor(plant.held_batches * self._ready)))

    def _scale(self, now: float) -> None:
        self._ready += sum(at <= now for at in self._starting)
        self._starting = [at for at in self._starting if at > now]
        if not self._autoscaler.is_due(now):
            return
        wanted = self._autoscaler.replicas(self._values(now), self._replicas, now)
        for _ in range(wanted - self._replicas):
            self._starting.append(now + self._plant.cold_start_s)
        for _ in range(self._replicas - wanted):
            if self._starting:
                self._starting.pop()
            else:
                self._ready -= 1

    def _values(self, now: float) -> dict[str, float]:
        if now - self._scraped_at >= self._plant.scrape_s:
            self._scraped_at = now
            self._scraped = {
                trigger.key: self._value(trigger.key, now)
                for trigger in self._scaling.triggers
                if trigger.kind == "prometheus"
            }
        lists = (trigger.key for trigger in self._scaling.triggers if trigger.kind == "redis")
        return {**self._scraped, **{key: self._value(key, now) for key in lists}}

    def _value(self, key: str, now: float) -> float:
        """What a trigger asks for, a list's name or a query, comes to now."""
        if key.startswith("millrace:awake:") or "millrace_model_awake" in key:
            return float(bool(self._waiting) or self._asked_at > now - AWAKE_TTL_S)
        if key.endswith(".interactive") or "millrace_queue_length" in key:
            return self._listed()
        if key.endswith(".bulk"):
            return 0.0
        if "millrace_backlog_seconds" in key:
            return self._wait() * self._ready
        if "millrace_batch_duration_seconds_sum" in key:
            return sum(self._busy) / self._busy.maxlen if self._busy.maxlen else 0.0
        raise ValueError(f"nobody knows here what {key} is")

    def _judge(self, run: Run) -> None:
        run.refused = round(self._refused / self._arrived, 4)
        waits = sorted(self._waits)
        total = sum(tokens for _, tokens in waits)
        late = sum(tokens for wait_s, tokens in waits if wait_s > self._plant.timeout_s)
        run.late = round(late / total, 4)
        run.p50_s, run.p99_s = (round(_at(waits, share * total), 2) for share in (0.5, 0.99))
        run.most_s = round(waits[-1][0], 2)
        run.worker_hours, run.needed_hours = round(run.worker_hours, 2), round(run.needed_hours, 2)


def _at(waits: Sequence[tuple[float, float]], tokens: float) -> float:
    seen = 0.0
    for wait_s, part in waits:
        seen += part
        if seen >= tokens:
            return wait_s
    return waits[-1][0]


def scaled_by(triggers: str, values: dict[str, Any]) -> Scaling:
    """The chart's scaling of one pool by one of `TRIGGERS`."""
    scaling = {
        "enabled": True,
        "maxReplicas": 8,
        "redis": {"enabled": triggers != "Prometheus"},
        "prometheus": {"enabled": triggers != "list", "serverAddress": "http://prometheus:9090"},
    }
    base = {"poolDefaults": {"autoscaling": scaling}}
    return scaling_of(find(rendered(merged(base, values)), "ScaledObject", "-worker-default"))


TRIGGERS = ("list", "list and Prometheus", "Prometheus")


def simulate(plant: Plant, loads: Sequence[Load] = LOADS, values: dict[str, Any] | None = None) -> list[Run]:
    """Every load under all kinds of triggers."""
    return [
        Simulation(scaled_by(triggers, values or {}), plant, load).run(triggers)
        for load in loads
        for triggers in TRIGGERS
    ]


def main() -> None:
    """Simulate, print a table, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument(
        "--tokens-per-s", type=float, default=7600.0, help="of one worker (default: MiniLM on two cores)"
    )
    parser.add_argument("--batch-tokens", type=float, default=1024.0, help="of one batch")
    parser.add_argument("--cold-start", type=float, default=60.0, help="of a worker, in seconds")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--tasks-in-flight", type=int, default=8, help="of a gateway, per worker")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of a request, in seconds")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--plot", type=Path, help="SVG to draw; needs matplotlib")
    options = parser.parse_args()
    plant = Plant(
        tokens_per_s=options.tokens_per_s,
        batch_tokens=options.batch_tokens,
        cold_start_s=options.cold_start,
        gateways=options.gateways,
        tasks_in_flight_per_worker=options.tasks_in_flight,
        timeout_s=options.timeout,
        cold_start_budget_s=3 * options.cold_start,
    )
    runs = simulate(plant)
    columns = ("load", "triggers", "refused", "late", "p50 s", "p99 s", "most s", "changes", "paid h", "needed h")
    print("{:6} {:20} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>9}".format(*columns))
    for run in runs:
        print(
            f"{run.load:6} {run.triggers:20} {run.refused:8.2%} {run.late:7.2%} {run.p50_s:7.2f} {run.p99_s:7.2f} "
            f"{run.most_s:7.1f} {run.changes:8d} {run.worker_hours:7.2f} {run.needed_hours:9.2f}"
        )
    save({"plant": asdict(plant), "runs": [asdict(run) for run in runs]}, path_for(options.json, "scaling-"))
    if options.plot:
        from bench.scaling_plot import draw

        draw(runs, options.plot)


if __name__ == "__main__":
    main()
