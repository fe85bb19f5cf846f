"""Who may import whom: the declared contracts, and what a fresh interpreter really loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAVY = {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "pandas", "numba"}
HTTP = {"fastapi", "starlette", "uvicorn"}
#: What makes and sends traces, and ours that use it; redis-py loads OpenTelemetry's interfaces by itself.
TRACES = {"opentelemetry.sdk", "opentelemetry.exporter", "api.tracing", "workers.tracing"}

_PROBE = """
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
status = open("/proc/self/status").read()
print(json.dumps([sorted(sys.modules), int(status.split("VmRSS:")[1].split()[0]) / 1024]))
"""


def _fresh(*modules: str) -> tuple[set[str], float]:
    """Top-level names that are loaded after importing these modules, and the process's memory in MB."""
    loaded, megabytes = _loaded(*modules)
    return {name.split(".")[0] for name in loaded}, megabytes


def _loaded(*modules: str) -> tuple[set[str], float]:
    """The same with all names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(modules=modules)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded, megabytes = json.loads(done.stdout.splitlines()[-1])
    return set(loaded), megabytes


def _modules_of(package: str) -> list[str]:
    return [f"{package}.{path.stem}" for path in sorted((ROOT / package).glob("*.py")) if path.stem != "__init__"]


def test_the_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_gateway_loads_no_model_code_no_celery_and_stays_small() -> None:
    loaded, megabytes = _fresh("api.app")

    assert not loaded & (HEAVY | {"celery", "kombu"})
    assert megabytes < 150


def test_the_workers_parent_process_loads_neither_torch_nor_an_http_framework() -> None:
    loaded, _ = _fresh("workers.__main__")

    assert not loaded & (HEAVY | HTTP)


def test_the_callback_worker_loads_neither_model_code_nor_an_http_framework_nor_a_sinks_client() -> None:
    loaded, megabytes = _fresh("workers.callbacks.__main__", "workers.sinks.qdrant", "workers.sinks.pgvector")

    assert not loaded & (HEAVY | HTTP | {"qdrant_client", "psycopg", "pgvector"})
    assert megabytes < 150


def test_what_makes_traces_is_loaded_by_nobody_who_makes_none() -> None:
    loaded, _ = _loaded("api.app", "workers.__main__")

    assert not loaded & TRACES


def test_the_engine_process_loads_neither_an_http_framework_nor_celery() -> None:
    loaded, _ = _fresh("workers.engine")

    assert not loaded & ({"fastapi", "uvicorn"} | {"celery", "kombu"})


@pytest.mark.parametrize("module", _modules_of("shared"))
def test_no_module_of_the_contract_loads_torch_or_an_http_framework(module: str) -> None:
    loaded, _ = _fresh(module)

    assert not loaded & (HEAVY | HTTP)
    assert not loaded & {"api", "workers", "millrace"}


@pytest.mark.parametrize(
    "module", ["api.app", "workers.app", "workers.pool", "workers.callbacks.app", "shared.celery_app"]
)
def test_importing_connects_to_nothing_and_reads_no_setting(module: str) -> None:
    # Given an environment in which any use of a setting or of Redis would fail
    environment = {**os.environ, "MILLRACE_PORT": "none", "MILLRACE_REDIS_URL": "nonsense", "MILLRACE_DTYPE": "none"}

    # When
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # Then
    assert (done.returncode, done.stderr) == (0, "")
