"""`millrace models fetch` against a hub that refuses some times before it answers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hub import Hub, Repository, running_hub

ROOT = Path(__file__).parents[2]
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"\0" * 100}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """One model, for whoever has the token."""
    with running_hub() as hub:
        hub.repositories["org/tiny"] = Repository(FILES, token="hf_secret")
        yield hub


def _fetch(hub: Hub, folder: Path, model: str = "org/tiny") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder),
        "HF_TOKEN": "hf_secret",
        "HF_HUB_DISABLE_XET": "1",
        "MILLRACE_MODEL": model,
        "no_proxy": "*",
    }
    return subprocess.run(
        [sys.executable, "-m", "millrace.cli", "models", "fetch"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_refuses_for_now_is_asked_again(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.busy["/api/models/org/tiny/revision/main"], hub.busy_status = 3, status

    fetched = _fetch(hub, tmp_path)

    assert fetched.returncode == 0, fetched.stderr
    name, _, folder = fetched.stdout.strip().partition(": ")
    assert name == "org/tiny"
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == FILES
    assert hub.refused == 3
    assert "Bearer hf_secret" in hub.tokens
    assert "hf_secret" not in fetched.stderr


def test_a_model_that_is_not_there_is_an_error_at_once(hub: Hub, tmp_path: Path) -> None:
    missing = _fetch(hub, tmp_path, model="org/nothing")

    assert missing.returncode == 1
    assert missing.stderr.startswith("millrace: model org/nothing")
    assert "hub_busy" not in missing.stderr
