"""An output file is written by one run at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from millrace.ingest.output_lock import hold
from millrace.ingest.problems import InputProblem


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    code = f"""
import sys
from pathlib import Path
from millrace.ingest.output_lock import hold
lock = hold(Path({str(output)!r}))
print("held", flush=True)
sys.stdin.read()
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputProblem, match="another run of millrace ingest is writing it"):
            hold(output)
        hold(tmp_path / "others.npy").close()
    finally:
        first.kill()
        first.communicate()
    hold(output).close()
