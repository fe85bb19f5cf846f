"""`python -m tests.fuzz`: requests made from the OpenAPI document against the real service, good ones and bad ones.

Schemathesis checks that what fits the document is accepted, that what does not is refused, that every answer is documented,
and that nothing is a 500 or a hang.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.models import models
from tests.helpers.service import Service

_HERE = Path(__file__).parent
#: An exception that nothing handled, in the service's log.
_CRASH = "request_crashed"


def main() -> int:
    """Run it; the exit status is not 0 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="made-up requests for each route, good and bad")
    parser.add_argument("--max-time", type=int, help="seconds after which no further ones are made")
    parser.add_argument("--paths", default=".", help="regular expression of the paths to try")
    parser.add_argument("--but", default="", help="regular expression of paths to leave out")
    parser.add_argument("--seed", type=int, help="repeats a run")
    # CPython 3.11's parser, which Hypothesis asks about lambdas, fails now and then beside other threads.
    parser.add_argument("--workers", type=int, default=1, help="routes at a time")
    parser.add_argument("--tool", type=Path, default=Path(".venv/fuzz/bin/st"), help="schemathesis' command")
    parser.add_argument("--keep", type=Path, help="file for the service's log; else thrown away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-fuzz-") as name:
        names = models(Path(name) / "models")
        settings = {
            "MILLRACE_MODEL": ",".join(names),
            "MILLRACE_ACCESS_LOG": "false",
            # What follows a job ends with it, so that it is no hang: jobs without documents would go on for days.
            "MILLRACE_JOB_TIMEOUT_S": "20",
        }
        service = Service(Path(name), settings)
        service.start()
        try:
            status = subprocess.run(_command(options, service.url), env=_environment(names), check=False).returncode
            if options.keep is not None:
                options.keep.write_text(service.log())
            crashes = [line for line in service.log().splitlines() if _CRASH in line]
        finally:
            service.stop()
    for line in crashes[:20]:
        print(line)  # noqa: T201 (a command line)
    return status or bool(crashes)


def _command(options: argparse.Namespace, url: str) -> list[str]:
    command = [str(options.tool), "--config-file", str(_HERE / "schemathesis.toml"), "run", f"{url}/openapi.json"]
    command += ["--max-examples", str(options.examples), "--workers", str(options.workers), "--checks", "all"]
    command += ["--include-path-regex", options.paths]
    command += ["--exclude-path-regex", options.but] if options.but else []
    command += ["--max-time", str(options.max_time)] if options.max_time is not None else []
    command += ["--seed", str(options.seed)] if options.seed is not None else []
    return command


def _environment(names: list[str]) -> dict[str, str]:
    root = str(_HERE.parents[1])
    return {**os.environ, "PYTHONPATH": root, "MILLRACE_FUZZ_MODELS": ",".join(names)}


if __name__ == "__main__":
    sys.exit(main())
