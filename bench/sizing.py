"""`python -m bench.sizing`: the speed of a worker on this machine by two lengths, and how far off that is at other loads.

A token costs its way through the linear layers, and a look at each other token of its text. What of each a device does in a
second is measured with short and with long texts (`CALIBRATION`); the rate at any other load follows, and is measured too:
by the engine alone at other lengths and at a mix, and through gateway, queue and worker. Rounds are many and short, each has
all of them, and medians over the rounds are compared, since others may use the machine too.

It ends with status 1 if a load is off by more than `--within`.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from bench import machine, saved
from bench.child import Child
from bench.engine import folders
from bench.load import EMBEDDINGS_PATH
from bench.services import BenchFailed, running_stack
from bench.texts import COUNT
from shared.model_config import DEFAULT_MODEL
from workers.weights import local_folder

#: Kinds of texts by which the device is known: as short and as long as texts come.
CALIBRATION = ("16", "512")
#: Texts of a pass: about 4,000 tokens, half a second of two cores.
_COUNTS = {"16": 256, "128": 32, "256": 16, "512": 8, "mix": 48}
#: What the service is asked for: kind of texts, connections, texts of a request.
_REQUESTS = (("short", 8, 32), ("mix", 8, 32))
_WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations of some texts."""

    linear: float
    attention: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What a device does of each in a second."""

    linear: float
    attention: float

    @classmethod
    def fitted(cls, short: "Pass", long: "Pass") -> Self:
        """The speed at which both passes took as long as they did.

        Args:
            short: Texts whose work is nearly all linear.
            long: Texts with more attention.
        """
        # Cramer's rule for the seconds that an operation of each kind takes.
        one, other = short.work, long.work
        determinant = one.linear * other.attention - other.linear * one.attention
        linear_s = (short.seconds * other.attention - long.seconds * one.attention) / determinant
        attention_s = (one.linear * long.seconds - other.linear * short.seconds) / determinant
        if attention_s <= 0:  # long texts are no slower: attention costs nothing that is to be seen
            return cls((one.linear + other.linear) / (short.seconds + long.seconds), math.inf)
        return cls(1 / linear_s, 1 / attention_s)

    def seconds(self, work: Work) -> float:
        """How long some work takes."""
        return work.linear / self.linear + work.attention / self.attention


@dataclass(frozen=True, slots=True)
class Pass:
    """Some texts, and how long they took the engine."""

    work: Work
    tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """A load, in tokens per second: what was predicted, and what each round has measured."""

    name: str
    predicted: float
    measured: Sequence[float]

    @property
    def error(self) -> float:
        """By how much more was predicted, as a share of what was measured at the median."""
        return self.predicted / median(self.measured) - 1


class Sizing:
    """The rounds."""

    def __init__(self, engine: Child, load: Child | None, port: int) -> None:
        """Know what is asked, and warm everything up.

        Args:
            engine: `bench.engine.ours`.
            load: The load generator; None for the engine alone.
            port: The gateway's.
        """
        self._engine, self._load, self._port = engine, load, port
        self._linear_per_token: float = engine.ask("describe")["linear_flops_per_token"]
        self._passes: dict[str, list[Pass]] = {kind: [] for kind in _COUNTS}
        #: Of each load of the service: its texts, and texts per second in each round.
        self._texts = {request: self._pass(request[0], COUNT) for request in _REQUESTS if load is not None}
        self._served: dict[tuple[str, int, int], list[float]] = {request: [] for request in self._texts}
        #: Of a plain matrix product, in operations per second.
        self._ceilings: list[float] = []
        for request in self._texts:
            self._texts_per_s(*request, seconds=_WARM_UP_S)

    def round(self, dtype: str, seconds: float, *, backwards: bool) -> None:
        """Measure everything once.

        Args:
            dtype: Of the matrix product.
            seconds: Of each load through the service.
            backwards: The other way round, so that a drift of the machine favours nobody.
        """
        for kind in list(_COUNTS)[:: -1 if backwards else 1]:
            self._passes[kind].append(self._pass(kind, _COUNTS[kind]))
        for request, served in self._served.items():
            served.append(self._texts_per_s(*request, seconds=seconds))
        self._ceilings.append(self._engine.ask("ceiling", dtype=dtype))

    def ceiling(self) -> float:
        """A plain matrix product at the median, in operations per second."""
        return median(self._ceilings)

    def speed(self) -> Speed:
        """The device's, by the calibration's passes at their medians."""
        return Speed.fitted(*(_at_the_median(self._passes[kind]) for kind in CALIBRATION))

    def rows(self) -> list[Row]:
        """All loads but those of the calibration."""
        speed = self.speed()
        rows = []
        for kind, passes in self._passes.items():
            if kind not in CALIBRATION:
                measured = [each.tokens / each.seconds for each in passes]
                rows.append(Row(f"engine, {_called(kind)}", passes[0].tokens / speed.seconds(passes[0].work), measured))
        for request, rates in self._served.items():
            kind, connections, texts = request
            asked = self._texts[request]
            name = f"service, {connections} x {texts} texts, {_called(kind)}"
            measured = [asked.tokens / COUNT * rate for rate in rates]
            rows.append(Row(name, asked.tokens / speed.seconds(asked.work), measured))
        return rows

    def _pass(self, kind: str, count: int) -> Pass:
        found: Mapping[str, float] = self._engine.ask("embed", kind=kind, count=count)
        linear = self._linear_per_token * found["tokens"]
        return Pass(Work(linear, found["flops"] - linear), found["tokens"], found["seconds"])

    def _texts_per_s(self, kind: str, connections: int, texts: int, *, seconds: float) -> float:
        if self._load is None:
            raise RuntimeError("the service is not measured here")
        rate: float = self._load.ask(
            "closed_loop",
            port=self._port,
            path=EMBEDDINGS_PATH,
            texts_per_request=texts,
            concurrency=connections,
            seconds=seconds,
            texts=kind,
        )["texts_per_s"]
        return rate


def _at_the_median(passes: Sequence[Pass]) -> Pass:
    return Pass(passes[0].work, passes[0].tokens, median(each.seconds for each in passes))


def _called(kind: str) -> str:
    return f"{kind} tokens" if kind.isdigit() else {"short": "about 16 tokens", "mix": "mixed lengths"}[kind]


def _table(sizing: Sizing, where: Mapping[str, Any]) -> str:
    """The report for people: medians over the rounds."""
    ceiling, speed = sizing.ceiling(), sizing.speed()
    lines = [
        f"Sizing, {where['date']}, {where['cpu']}, {where['cores']} cores, {where['model']}, {where['dtype']}, "
        f"medians over {where['rounds']} rounds; others used {where['other_load_cores']} cores",
        f"a plain matrix product: {ceiling / 1e9:,.0f} GFLOP/s; by texts of {' and '.join(CALIBRATION)} tokens "
        f"linear layers {speed.linear / 1e9:,.0f} ({speed.linear / ceiling:.0%}), "
        f"attention {speed.attention / 1e9:,.0f} ({speed.attention / ceiling:.0%})",
        "",
        f"{'tokens per second':44}{'predicted':>12}{'measured':>12}{'error':>8}{'rounds':>18}",
    ]
    for row in sizing.rows():
        span = f"{min(row.measured):,.0f} to {max(row.measured):,.0f}"
        lines.append(f"{row.name:44}{row.predicted:12,.0f}{median(row.measured):12,.0f}{row.error:+8.0%}{span:>18}")
    return "\n".join(lines)


def _run(arguments: argparse.Namespace, where: dict[str, Any]) -> Sizing:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        model = folders.reading_longest(arguments.model or local_folder(DEFAULT_MODEL), folder / "model")
        port, load = 0, None
        if not arguments.engine_only:
            settings = {
                "MILLRACE_MODEL": str(model),
                "MILLRACE_DTYPE": arguments.dtype,
                "MILLRACE_DEVICE": arguments.device,
            }
            service = stack.enter_context(running_stack(folder / "service", engine=None, settings=settings))
            load = stack.enter_context(Child("bench.load", folder / "load.log"))
            service.wait_ready()
            port = service.port
        words = [str(model), arguments.dtype, arguments.device]
        engine = stack.enter_context(Child("bench.engine.ours", folder / "engine.log", arguments=words))
        sizing = Sizing(engine, load, port)
        others = machine.OtherLoad()
        for number in range(arguments.rounds):
            sizing.round(arguments.dtype, arguments.seconds, backwards=number % 2 == 1)
            print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
        where["other_load_cores"] = round(others.cores_since(), 2)
        return sizing


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder of an embedding model; the default model when absent")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="auto", help="as `MILLRACE_DEVICE`, of one device")
    parser.add_argument("--engine-only", action="store_true", help="leave the service out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one load of the service in one round")
    parser.add_argument("--within", type=float, default=0.15, help="largest error that is taken, as a share")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine.facts() | {
        "model": arguments.model.name if arguments.model else DEFAULT_MODEL.name,
        "dtype": arguments.dtype,
        "rounds": arguments.rounds,
    }
    try:
        sizing = _run(arguments, where)
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "sizing-")
    rows = sizing.rows()
    figures = {
        "machine": where,
        "ceiling_flops": sizing.ceiling(),
        "speed_flops": asdict(sizing.speed()),
        "rows": [{**asdict(row), "error": row.error} for row in rows],
    }
    saved.save(figures, path)
    print(_table(sizing, where))
    print(f"written to {path}", file=sys.stderr)
    return int(max(abs(row.error) for row in rows) > arguments.within)


if __name__ == "__main__":
    sys.exit(main())
