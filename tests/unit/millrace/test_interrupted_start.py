"""Ctrl-C while the command still loads its modules."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: Says when the command loads its first module.
_TELL = """
class Told:
    def find_spec(self, name, path=None, target=None):
        if name == "shared.settings":
            print("begun", flush=True)

sys.meta_path.insert(0, Told())
"""

#: Sends itself Ctrl-C while MODULE is loaded, in a callback of a weak reference, as the import system has them for its
#: locks: what is raised in there is printed and forgotten.
_INTERRUPT_WHERE_IT_GETS_LOST = """
import os, signal, weakref

class Lock:
    pass

class Told:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            print("begun", flush=True)
            lock = Lock()
            reference = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))
            del lock

sys.meta_path.insert(0, Told())
"""


@contextmanager
def _started(folder: Path, before: str) -> Iterator[subprocess.Popen[str]]:
    """The command, at a gateway that takes connections and never answers: it does not end by itself before the signal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (folder / "in.jsonl").write_text('{"text": "one"}\n')
        code = (
            f"import sys, millrace.cli\n{before}\nsys.exit(millrace.cli.main(['ingest', 'in.jsonl', '--url', '{url}']))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As in a terminal: what a shell starts in the background is deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
                yield process
            finally:
                process.kill()


def _assert_ends_quietly(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.parametrize("pause_s", [0.0, 0.1, 0.2, 0.4, 1.0])
def test_ctrl_c_at_the_start_ends_quietly(tmp_path: Path, pause_s: float) -> None:
    with _started(tmp_path, _TELL) as process:
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        _assert_ends_quietly(process)


@pytest.mark.parametrize("module", ["shared.settings", "millrace.ingest.run", "httpcore"])
def test_ctrl_c_does_not_get_lost_while_modules_are_loaded(tmp_path: Path, module: str) -> None:
    with _started(tmp_path, _INTERRUPT_WHERE_IT_GETS_LOST.replace("MODULE", module)) as process:
        _assert_ends_quietly(process)
