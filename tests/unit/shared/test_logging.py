"""Logs as processes write them: what callers chose does nothing to the terminal that shows them."""

import subprocess
import sys

import pytest

_PROGRAM = r"""
import logging, sys
from shared.logging import configure_logging, get_logger
configure_logging("info", sys.argv[1])
bad = "/\x1b[2J\x1b[1;31mP W\x07\x9b\u202e\r\x00\udc80\n\x1b[1mnext"
class Odd:
    def __repr__(self): return bad
log = get_logger("millrace.test")
log.info("request_answered", path=bad, client="/\x1b[2J", status=404, tags=[bad, b"\x1b"], nothing=None, odd=Odd())
log.info("told", reason="a \t tab", city="Zürich")
try:
    raise ValueError(bad)
except ValueError:
    log.exception("crashed")
logging.getLogger("foreign\x1b").warning("of a library: %s", bad)
"""


def _lines(log_format: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", _PROGRAM, log_format], capture_output=True, check=True)
    return run.stderr.decode().splitlines(keepends=True)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_a_caller_chose_steers_the_terminal(log_format: str) -> None:
    lines = _lines(log_format)

    assert all(line.rstrip("\n").isprintable() for line in lines), lines
    assert sum("\\x1b[2J" in line or "\\u001b[2J" in line for line in lines) >= 3


def test_a_line_of_text_tells_what_the_value_was() -> None:
    answered, told, *_ = _lines("text")

    assert r"path='/\x1b[2J\x1b[1;31mP W\x07\x9b\u202e\r\x00\udc80\n\x1b[1mnext'" in answered
    assert r"client='/\x1b[2J'" in answered
    assert "status=404" in answered
    assert "nothing=None" in answered
    assert "city=Zürich" in told
