"""Traces are sent where they are asked for, and a deployment that cannot send them says so at its start."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.model_config import ConfigurationError
from shared.settings import Settings

ROOT = Path(__file__).parents[3]

_WITHOUT_PACKAGES = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None  # as where it is not installed
from shared.model_config import ConfigurationError
from shared.tracing import Tracing
try:
    Tracing("http://127.0.0.1:9", "gateway", "here", chooses=True)
except ConfigurationError as err:
    print(err)
"""


def test_without_the_packages_the_start_names_the_setting_and_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PACKAGES], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert "MILLRACE_OTLP_ENDPOINT" in done.stdout
    assert "millrace[otel]" in done.stdout


@pytest.mark.parametrize("address", ["collector:4317", "grpc://collector:4317", "http://a b"])
def test_an_address_that_is_none_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_OTLP_ENDPOINT", address)

    with pytest.raises(ConfigurationError, match="MILLRACE_OTLP_ENDPOINT"):
        Settings.load()
