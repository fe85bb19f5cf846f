"""Flower shows and revokes tasks: it is not open to a network by mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "flower.example"])
def test_it_does_not_start_for_others_without_a_password(host: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    refused = subprocess.run(
        [sys.executable, "-m", "millrace.flower"],
        env={**environment, "MILLRACE_FLOWER_HOST": host},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode == os.EX_CONFIG
    assert "MILLRACE_FLOWER_HOST" in refused.stderr
    assert "FLOWER_BASIC_AUTH" in refused.stderr
