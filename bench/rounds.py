"""A run: start what the plan needs, then go round all loads several times, so that each row sees the same weather."""

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench import plan as plans
from bench.child import Child
from bench.load import ECHO_PATH, EMBEDDINGS_PATH
from bench.machine import OtherLoad
from bench.measurement import Measurement, Results, of_latencies
from bench.plan import HttpLoad, Part, Plan
from bench.services import BenchFailed, Stack, post, running_echo, running_stack
from bench.texts import COUNT, short_texts

#: Vectors of the service that are compared with the reference's before anything is measured.
_COMPARED = 32
#: Least cosine; bfloat16 stays above it, another model or a shuffled batch does not.
_LEAST_COSINE = 0.99
#: Load that warms up sockets, buffers and caches before the first round.
_WARM_UP_S = 0.5
#: Load that stands for the single-text capacity where part (b) does not measure it.
_CAPACITY_LOAD = HttpLoad(64, 1)

ProcessT = TypeVar("ProcessT")


@dataclass(frozen=True, slots=True)
class Machinery:
    """The running processes; those that the plan does not need are None."""

    forward: Child | None
    load: Child | None
    queue_path: Child | None
    service: Stack | None
    null_service: Stack | None
    echo_port: int | None


@contextmanager
def running(parts: frozenset[Part], folder: Path) -> Iterator[Machinery]:
    """Start the processes that these parts need, all at once; yields when all are ready."""
    with ExitStack() as stack:
        service = null_service = forward = load = queue_path = echo_port = None
        if parts & {Part.SERVICE, Part.LATENCY}:
            service = stack.enter_context(running_stack(folder / "service", engine=None))
        if parts & {Part.FORWARD, Part.LATENCY}:
            forward = stack.enter_context(Child("bench.forward", folder / "forward.log"))
        if Part.QUEUE in parts:
            null_service = stack.enter_context(
                running_stack(folder / "null-service", engine="bench.null_engine", gateways=0)
            )
            queue_path = stack.enter_context(Child("bench.queue_path", folder / "queue_path.log"))
        if Part.ECHO in parts:
            echo_port = stack.enter_context(running_echo(folder))
        if parts & {Part.SERVICE, Part.LATENCY, Part.ECHO}:
            load = stack.enter_context(Child("bench.load", folder / "load.log"))
        for each in (service, null_service):
            if each is not None:
                each.wait_ready()
        yield Machinery(forward, load, queue_path, service, null_service, echo_port)


class Run:
    """The rounds of a plan."""

    def __init__(self, plan: Plan, machinery: Machinery, progress: Callable[[str], None]) -> None:
        self._plan = plan
        self._on = machinery
        self._progress = progress
        self.results: Results = defaultdict(list)
        #: Cores that other processes kept busy, per round.
        self.other_load_cores: list[float] = []
        self._idle_requests = 0
        #: Requests/s of the open-loop load; set in the first round and kept, so that the rounds compare.
        self._open_loop_rate = 0.0

    def measure(self) -> Results:
        """Go round. Every second round goes backwards, so that a drift of the machine favours nobody."""
        self._check_vectors()
        self._warm_up()
        steps: list[tuple[Part, Callable[[], None]]] = [
            (Part.FORWARD, self._forward),
            (Part.SERVICE, self._service),
            (Part.LATENCY, self._latency),
            (Part.QUEUE, self._queue),
            (Part.ECHO, self._echo),
        ]
        others = OtherLoad()
        for number in range(self._plan.rounds):
            for part, step in steps if number % 2 == 0 else reversed(steps):
                if part in self._plan.parts:
                    self._progress(f"round {number + 1} of {self._plan.rounds}: {part.name.lower()}")
                    step()
            self.other_load_cores.append(round(others.cores_since(), 2))
        return self.results

    def describe(self) -> dict[str, Any]:
        """What the bare forward says about the model, if it runs."""
        described: dict[str, Any] = self._on.forward.ask("describe") if self._on.forward else {}
        return described

    def _check_vectors(self) -> None:
        """The service and the reference must do the same work, or the comparison means nothing."""
        if self._on.service is None or self._on.forward is None:
            return
        texts = short_texts()[:_COMPARED]
        answer = post(self._on.service.port, EMBEDDINGS_PATH, {"input": texts, "encoding_format": "base64"})
        ours = np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]])
        cosines = np.einsum("ij,ij->i", ours, np.array(self._on.forward.ask("vectors", count=_COMPARED)))
        if cosines.min() < _LEAST_COSINE:
            raise BenchFailed(f"the service's vectors are not the reference's: least cosine {cosines.min():.4f}")

    def _warm_up(self) -> None:
        if self._on.service is not None:
            self._http(self._on.service.port, EMBEDDINGS_PATH, _CAPACITY_LOAD, _WARM_UP_S)
        if self._on.echo_port is not None:
            self._http(self._on.echo_port, ECHO_PATH, _CAPACITY_LOAD, _WARM_UP_S)
        if self._on.queue_path is not None:
            self._queue_load(plans.QUEUE_WINDOWS[0], _CAPACITY_LOAD.concurrency, _WARM_UP_S)

    def _forward(self) -> None:
        forward = _running(self._on.forward)
        for batch_size in plans.REFERENCE_BATCH_SIZES:
            self._record(f"forward/reference/{batch_size}", forward.ask("reference", batch_size=batch_size))
        self._record("forward/packed", forward.ask("packed"))

    def _service(self) -> None:
        port = _running(self._on.service).port
        for load in self._plan.http_loads:
            self._record(http_row("service", load), self._http(port, EMBEDDINGS_PATH, load, self._plan.http_s))
            if self._on.forward is not None:
                # Right beside it, since a shared machine is another one a minute later.
                at_a_time = min(COUNT, load.concurrency * load.texts_per_request)
                self._record(http_row("engine", load), self._on.forward.ask("arriving", at_a_time=at_a_time))

    def _echo(self) -> None:
        for load in self._plan.http_loads:
            measured = self._http(_running(self._on.echo_port), ECHO_PATH, load, self._plan.echo_s)
            self._record(http_row("echo", load), measured)

    def _queue(self) -> None:
        for concurrency in plans.QUEUE_CONCURRENCIES:
            for window in plans.QUEUE_WINDOWS:
                measured = self._queue_load(window, concurrency, self._plan.queue_s)
                self._record(queue_row(window, concurrency), measured)

    def _latency(self) -> None:
        forward, load, port = _running(self._on.forward), _running(self._on.load), _running(self._on.service).port
        latencies_s: dict[str, list[float]] = {"service": [], "reference": [], "packed": []}
        for _ in range(self._plan.idle_blocks):
            of_texts = {"count": plans.IDLE_BLOCK_REQUESTS, "offset": self._idle_requests}
            latencies_s["service"] += load.ask("sequential", port=port, path=EMBEDDINGS_PATH, **of_texts)
            for name, values in forward.ask("singles", **of_texts).items():
                latencies_s[name] += values
            self._idle_requests += plans.IDLE_BLOCK_REQUESTS
        for name, values in latencies_s.items():
            measured = of_latencies(values, texts=len(values), seconds=sum(values), client_cpu_s=0.0)
            self.results[f"idle/{name}"].append(measured)
        self._open_loop_rate = self._open_loop_rate or plans.OPEN_LOOP_SHARE * self._capacity()
        measured = load.ask(
            "open_loop",
            port=port,
            path=EMBEDDINGS_PATH,
            rate_per_s=self._open_loop_rate,
            seconds=self._plan.open_loop_s,
        )
        self._record("open_loop/service", measured)

    def _capacity(self) -> float:
        """Single-text requests/s that the service has reached."""
        rows = [http_row("service", load) for load in self._plan.http_loads if load.texts_per_request == 1]
        reached = [measured.texts_per_s for row in rows for measured in self.results.get(row, [])]
        if not reached:
            port = _running(self._on.service).port
            reached = [self._http(port, EMBEDDINGS_PATH, _CAPACITY_LOAD, self._plan.http_s)["texts_per_s"]]
        return max(reached)

    def _http(self, port: int, path: str, load: HttpLoad, seconds: float) -> dict[str, Any]:
        measured: dict[str, Any] = _running(self._on.load).ask(
            "closed_loop",
            port=port,
            path=path,
            texts_per_request=load.texts_per_request,
            concurrency=load.concurrency,
            seconds=seconds,
        )
        return measured

    def _queue_load(self, window: int, concurrency: int, seconds: float) -> dict[str, Any]:
        measured: dict[str, Any] = _running(self._on.queue_path).ask(
            "closed_loop",
            url=_running(self._on.null_service).redis_url,
            tasks_in_flight_per_worker=window,
            concurrency=concurrency,
            seconds=seconds,
        )
        return measured

    def _record(self, row: str, measured: Mapping[str, Any]) -> None:
        self.results[row].append(Measurement.from_json(dict(measured)))


def http_row(kind: str, load: HttpLoad) -> str:
    """Name of the row of an HTTP load."""
    return f"{kind}/{load.concurrency}x{load.texts_per_request}"


def queue_row(window: int, concurrency: int) -> str:
    """Name of the row of a queue load."""
    return f"queue/{'coalesced' if window else 'uncoalesced'}/{concurrency}"


def _running(process: ProcessT | None) -> ProcessT:
    if process is None:
        raise RuntimeError("the plan did not start this process")
    return process
