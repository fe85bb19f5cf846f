"""Supervision: who dies is started again, unless that would not mend it."""

import asyncio
import sys
from pathlib import Path

import pytest

from millrace.ports import liveness_url
from millrace.processes import Part
from millrace.supervision import CannotServe, Supervision
from tests.helpers.valkey import free_port

#: Notes its start; then says that it is well for as many seconds as it is told, and ends with a status.
_SCRIPT = """
import http.server, pathlib, sys, threading, time
note, port, seconds, status = sys.argv[1:]
with pathlib.Path(note).open("a") as file:
    file.write("started\\n")

class Well(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

if int(port):
    server = http.server.HTTPServer(("127.0.0.1", int(port)), Well)
    threading.Thread(target=server.serve_forever, daemon=True).start()
time.sleep(float(seconds))
sys.exit(int(status))
"""
EX_CONFIG = 78


def _supervised(note: Path, *, port: int, seconds: float, status: int, until: int) -> Supervision:
    """Supervise a part until it has been started so many times, or has made an end to all."""

    async def run() -> Supervision:
        command = [sys.executable, "-c", _SCRIPT, str(note), str(port), str(seconds), str(status)]
        part = Part("part", command, {}, plain_log=True, liveness_url=liveness_url("127.0.0.1", port))
        supervision = Supervision(wedged_after_s=20, start_timeout_s=20)
        await supervision.start(part)
        supervision.watch()
        async with asyncio.timeout(30):
            while len(_starts(note)) < until and not supervision.stopping.is_set():  # noqa: ASYNC110 - for another process
                await asyncio.sleep(0.05)
        supervision.unwatch()
        await part.stop(5)
        return supervision

    return asyncio.run(run())


def _starts(note: Path) -> list[str]:
    return note.read_text().splitlines() if note.exists() else []


def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    supervision = _supervised(tmp_path / "note", port=0, seconds=0, status=1, until=3)

    supervision.refuse_failure()
    assert len(_starts(tmp_path / "note")) == 3


def test_a_part_that_cannot_start_ends_everything_with_its_name(tmp_path: Path) -> None:
    supervision = _supervised(tmp_path / "note", port=0, seconds=0, status=EX_CONFIG, until=3)

    with pytest.raises(CannotServe, match="part cannot start; its last line above says why"):
        supervision.refuse_failure()
    assert len(_starts(tmp_path / "note")) == 1


def test_a_part_that_was_well_before_is_started_again_whatever_it_dies_of(tmp_path: Path) -> None:
    """A device that fails for good would otherwise end the workers on all others."""
    supervision = _supervised(tmp_path / "note", port=free_port(), seconds=2.5, status=EX_CONFIG, until=2)

    supervision.refuse_failure()
    assert len(_starts(tmp_path / "note")) == 2
