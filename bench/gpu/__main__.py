"""`python -m bench.gpu`: the engine and the service on a GPU, with models of published sizes, beside ceilings and peers."""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import machine, saved
from bench.gpu import plan as plans
from bench.gpu.plan import Part, Plan
from bench.gpu.report import Report
from bench.gpu.rows import Clock
from bench.gpu.run import NoDevice, Run
from bench.gpu.shapes import NAMES
from bench.services import BenchFailed


def main() -> int:
    """Entry point."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not (arguments.quick and arguments.small):
        parser.error("models of published sizes are for a GPU; with --device cpu say --quick --small as well")
    plan = _plan(arguments)
    # A terminated benchmark stops what it has started, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # everything is here, and all processes are told
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", file=sys.stderr, flush=True)

    path = saved.path_for(arguments.json, "gpu-")
    where = machine.facts() | {
        "dtype": plan.dtype,
        "rounds": plan.rounds,
        "small": plan.small,
        "parts": sorted(plan.parts),
        "models": [shape.name for shape in plan.shapes],
    }
    report = Report(path, where, lambda text: print(text, flush=True))
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
            run = Run(plan, Path(folder), report, Clock(plan.limit_s), infinity=arguments.infinity, progress=progress)
            run.execute()
    except NoDevice as err:
        print(f"bench: {err}; to try the benchmark without one: --device cpu --quick --small", file=sys.stderr)
        return 1
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    progress(f"written to {path}")
    return 1 if report.anything_failed else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = plans.full_plan(
        arguments.only or frozenset(Part),
        arguments.models or NAMES,
        device=arguments.device,
        dtype=arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16"),
        limit_s=arguments.limit,
    )
    if arguments.quick:
        plan = plans.quick(plan)
    return plans.small(plan) if arguments.small else plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description="The engine and the service on a GPU, beside peers and ceilings."
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--small", action="store_true", help="tiny models: to try the benchmark itself")
    parser.add_argument("--only", type=_parts, metavar="PARTS", help=f"comma-separated parts: {', '.join(Part)}")
    parser.add_argument("--models", type=_models, metavar="NAMES", help=f"comma-separated models: {', '.join(NAMES)}")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu (with --quick --small)")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="bfloat16 if absent (CPU: float32)")
    parser.add_argument("--infinity", metavar="PYTHON", help="interpreter that has infinity_emb; left out when absent")
    parser.add_argument(
        "--limit", type=float, default=500.0, metavar="SECONDS", help="no step begins later; 500 if absent"
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="where to write; bench/results/local/gpu-<date>.json if absent"
    )
    return parser


def _parts(text: str) -> frozenset[Part]:
    try:
        return frozenset(Part(word.strip()) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must name parts out of {', '.join(Part)}") from None


def _models(text: str) -> list[str]:
    names = [word.strip() for word in text.split(",")]
    if unknown := sorted(set(names) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
