"""What containers' health checks say."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.operations import LIVENESS_PATH, serve_operations
from shared.probe import trouble
from tests.helpers.valkey import free_port


@pytest.fixture
def reasons() -> list[str]:
    """Why the part is to be replaced; the last entry counts."""
    return [""]


@pytest.fixture
def url(reasons: list[str]) -> str:
    """Where a part says whether it is well."""
    port = free_port()
    serve_operations("127.0.0.1", port, CollectorRegistry(), lambda: reasons[-1])
    return f"http://127.0.0.1:{port}{LIVENESS_PATH}"


def test_nothing_is_said_of_a_part_that_is_well(url: str) -> None:
    assert trouble(url) == ""


def test_a_part_that_is_not_well_says_why(url: str, reasons: list[str]) -> None:
    reasons.append("nothing has moved for 40 s")

    assert trouble(url) == f"{url}: 503 nothing has moved for 40 s"


def test_a_part_that_does_not_answer_is_not_well() -> None:
    url = f"http://127.0.0.1:{free_port()}/livez"

    assert trouble(url).startswith(f"{url}: ")


def test_the_command_ends_with_what_it_found_whatever_proxies_the_environment_names(
    url: str, reasons: list[str]
) -> None:
    # Given a proxy that nobody listens at
    environment = {"http_proxy": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "shared.probe", url]

    # When
    well = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    reasons.append("wedged")
    unwell = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    # Then
    assert (well.returncode, well.stderr) == (0, "")
    assert (unwell.returncode, unwell.stderr) == (1, f"{url}: 503 wedged\n")
