"""What compose makes of compose.yaml: which settings parts are given, and how long they have to end."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ops.commands import run

#: Settings as a user might write them into `millrace.env`; the last is in no other file.
_OWN = {
    "MILLRACE_API_KEY": "key-of-millrace-env",
    "MILLRACE_KEYS_FILE": "/etc/millrace/keys.yaml",
    "MILLRACE_LOG_LEVEL": "debug",
    "MILLRACE_MODEL": "/models/mine",
    "MILLRACE_PUBLIC_URL": "https://embed.example",
    "HF_TOKEN": "token-of-millrace-env",
    "MILLRACE_MAX_CLIENT_BATCH_SIZE": "7",
}
_PARTS = ("gateway", "jobs", "callbacks", "flower", "worker-cpu", "worker-gpu")


def settings_take_effect(clone: Path, environment: Mapping[str, str]) -> str:
    """What stands in `millrace.env` reaches every part, over what `.env` says; what stands nowhere reaches none.

    Args:
        clone: Has compose.yaml, and a `.env` that is filled in.
        environment: Of compose.
    """
    bare = _services(clone, environment)
    for part in _PARTS:
        assert not _OWN.keys() & bare[part]["environment"].keys(), (part, bare[part]["environment"])
        assert bare[part]["environment"]["MILLRACE_REDIS_URL"].startswith("redis://:"), part
    given = {**environment, "MILLRACE_API_KEY": "key-of-env", "MILLRACE_MODEL": "model-of-env", "HF_TOKEN": "of-env"}
    handed_on = _services(clone, given)
    for part in _PARTS:
        told = handed_on[part]["environment"]
        assert told["MILLRACE_API_KEY"] == "key-of-env", part
        assert ("HF_TOKEN" in told) == part.startswith("worker"), part
        assert ("MILLRACE_FLOWER_PASSWORD" in told) == (part == "flower"), part
    with _millrace_env(clone):
        own = _services(clone, given)
    for part in _PARTS:
        assert own[part]["environment"].items() >= _OWN.items(), (part, own[part]["environment"])
    slow = _services(clone, {**environment, "MILLRACE_DRAIN_S": "60", "MILLRACE_LEAVE_AFTER_S": "2.5"})
    assert slow["gateway"]["stop_grace_period"] == "1m17.5s", slow["gateway"]["stop_grace_period"]
    assert bare["gateway"]["stop_grace_period"] == "45s", bare["gateway"]["stop_grace_period"]
    return f"{len(_OWN)} settings of millrace.env in {len(_PARTS)} parts"


def _services(clone: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    told = run(
        ["docker", "compose", "--profile", "*", "config", "--format", "json"],
        timeout_s=60,
        environment=environment,
        folder=clone,
    )
    found: dict[str, Any] = json.loads(told)["services"]
    return found


@contextmanager
def _millrace_env(clone: Path) -> Iterator[None]:
    file = clone / "millrace.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in _OWN.items()))
    try:
        yield
    finally:
        file.unlink()
