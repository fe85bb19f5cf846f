"""`python -m tests.monitoring`: alerts and dashboard on a real Prometheus, from promtool to the webhook that is told.

1. promtool checks the rules, and runs a history for each alert that fires it and one that does not.
2. The service runs under load, Prometheus scrapes it each second: every query of every panel returns data, and so do those
   of dashboards and scaling rules that were written for TEI.
3. A task whose workers are killed is a dead letter and an alert; a worker that stands still is one too, and is over when it
   goes on.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.monitoring import rules, scaling
from tests.monitoring.chain import under_load
from tests.monitoring.tools import Tools


def main() -> int:
    """Run it; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m tests.monitoring", description=__doc__)
    parser.add_argument("--tools", type=Path, default=Path("build/monitoring"), help="where Prometheus is unpacked")
    parser.add_argument("--keep", type=Path, help="folder for the logs; else thrown away")
    parser.add_argument("--rules-only", action="store_true", help="stop after promtool")
    options = parser.parse_args()
    tools = Tools(options.tools)
    with tempfile.TemporaryDirectory(prefix="millrace-monitoring-") as name:
        folder = options.keep.absolute() if options.keep else Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        _say(rules.check_syntax(tools).strip())
        _say(rules.check_cases(tools, folder))
        _say(scaling.check_triggers(tools, folder))
        return 0 if options.rules_only else _run(tools, folder)


def _run(tools: Tools, folder: Path) -> int:
    with under_load(tools, folder, _say) as chain:
        panels = chain.panels()
        _say(f"{sum(panels.values())} of {len(panels)} queries of the dashboard returned data")
        teis = chain.tei()
        _say(f"{sum(teis.values())} of {len(teis)} queries of TEI's dashboards and of KEDA had values")

        chain.make_dead_letter()
        _say(f"told: {chain.told('MillraceDeadLetters')['annotations']['summary']}")

        with chain.worker_stopped():
            stopped = time.monotonic()
            summary = chain.told("MillraceNoWorker", since=stopped)["annotations"]["summary"]
            _say(f"told {time.monotonic() - stopped:.1f} s after the worker stood still: {summary}")
        chain.told("MillraceNoWorker", "resolved", since=time.monotonic())
        _say("told that it is over")
        for alert, text in sorted(chain.told_of().items()):
            _say(f"  fired: {alert}: {text}")
    missing = [title for title, found in (panels | teis).items() if not found]
    for title in missing:
        _say(f"NO DATA: {title}")
    return 1 if missing else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (a command line)


if __name__ == "__main__":
    sys.exit(main())
