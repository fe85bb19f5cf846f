"""Ctrl-C while the command still loads its modules."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("pause_s", [0.0, 0.1, 0.2, 0.4, 1.0])
def test_ctrl_c_at_the_start_ends_quietly(tmp_path: Path, pause_s: float) -> None:
    # Given a gateway that takes connections and never answers (or else the command could have ended by itself before
    # the signal), and a start whose modules say when they begin to be loaded
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    (tmp_path / "in.jsonl").write_text('{"text": "one"}\n')
    code = (
        "import sys, millrace.cli; print('begun', flush=True);"
        f"sys.exit(millrace.cli.main(['ingest', 'in.jsonl', '--url', '{url}']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal: what a shell starts in the background is deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"

        # When
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    silent.close()

    # Then
    assert process.returncode == 130, said
    assert "Traceback" not in said
