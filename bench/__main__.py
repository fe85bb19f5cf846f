"""`python -m bench`: measure, print the table, write the JSON."""

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench import machine, report, saved
from bench.plan import Part, full_plan, quick_plan
from bench.rounds import Run, running
from bench.services import BenchFailed


def main() -> int:
    """Entry point."""
    arguments = _parser().parse_args()
    parts = arguments.only or frozenset(Part)
    plan = quick_plan(parts) if arguments.quick else full_plan(parts)
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    # A terminated benchmark stops what it has started, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", file=sys.stderr, flush=True)

    where = machine.facts()
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
            progress("starting processes")
            with running(parts, Path(folder)) as machinery:
                run = Run(plan, machinery, progress)
                where.update(run.describe())
                results = run.measure()
        where["other_load_cores"] = run.other_load_cores
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    path = saved.path_for(arguments.json)
    saved.save(report.to_json(plan, where, results), path)
    print(report.table(plan, where, results))
    progress(f"written to {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Millrace beside the bare model, on this machine."
    )
    parser.add_argument("--quick", action="store_true", help="one short round instead of three full ones")
    parser.add_argument("--rounds", type=_positive, help="number of rounds")
    parser.add_argument("--only", type=_parts, metavar="PARTS", help="comma-separated parts: a, b, c, d, latency")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="where to write; bench/results/local/<date>.json if absent"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of rounds")
    return number


def _parts(text: str) -> frozenset[Part]:
    try:
        return frozenset(Part(word.strip()) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must name parts out of {', '.join(Part)}") from None


if __name__ == "__main__":
    sys.exit(main())
