"""Supervision: who dies is started again, unless that would not mend it."""

import asyncio
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from millrace.ports import liveness_url
from millrace.processes import Part
from millrace.supervision import CannotServe, Supervision
from shared.operations import serve_operations
from tests.helpers.valkey import free_port

#: Notes its start; then says that it is well for as many seconds as it is told, and ends with a status.
_SCRIPT = """
import pathlib, sys, time
from prometheus_client import CollectorRegistry
from shared.operations import serve_operations
note, port, seconds, status = sys.argv[1:]
with pathlib.Path(note).open("a") as file:
    file.write("started\\n")
if int(port):
    serve_operations("127.0.0.1", int(port), CollectorRegistry())
time.sleep(float(seconds))
sys.exit(int(status))
"""
EX_CONFIG = 78


def _supervised(
    note: Path, *, port: int, seconds: float, status: int, until: int, asked_port: int | None = None
) -> Supervision:
    """Supervise a part until it has been started so many times, or has made an end to all."""
    url = liveness_url("127.0.0.1", port if asked_port is None else asked_port)

    async def run() -> Supervision:
        command = [sys.executable, "-c", _SCRIPT, str(note), str(port), str(seconds), str(status)]
        part = Part("part", command, {}, plain_log=True, liveness_url=url)
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


def test_what_another_process_says_on_its_port_kills_no_part(tmp_path: Path) -> None:
    # Given a stranger that has the port, and is wedged
    port = free_port()
    serve_operations("127.0.0.1", port, CollectorRegistry(), trouble=lambda: "nothing has moved for 40 s")

    # When a part is asked there for some seconds, and ends by itself
    _supervised(tmp_path / "note", port=0, seconds=4, status=EX_CONFIG, until=2, asked_port=port)

    # Then it has not been killed and started again before: it could not start, as it said
    assert len(_starts(tmp_path / "note")) == 1


def test_a_part_runs_the_supervisors_code_whatever_the_folder_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a folder with an `api` of its own
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)

    # When a part is started in it
    async def run() -> int:
        asked = "import api, os, sys; sys.exit(api.__file__.startswith(os.getcwd()))"
        part = Part("part", [sys.executable, "-c", asked], {}, plain_log=True)
        await part.start()
        return await part.wait()

    # Then it finds ours
    assert asyncio.run(run()) == 0
