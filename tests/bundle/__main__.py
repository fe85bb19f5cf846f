"""`python -m tests.bundle`: makes a bundle and proves that it installs and serves where no route leads out.

Two models go with it: the default one, and one in a folder. Everything happens in one folder, which is removed at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from shared.model_config import DEFAULT_MODEL
from tests.bundle.closed import TEXTS
from tests.bundle.damage import ROOT, refusals
from tests.helpers.tiny_models import embedding_model
from workers.weights import local_folder

#: The largest difference between a vector and the reference's.
_TOLERANCE = 1e-5
_FOLDER_MODEL = "tiny-embedder"


def main() -> int:
    """Run it; the exit status is not 0 where anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.bundle", description=__doc__)
    parser.add_argument("--work", type=Path, help="where the folder is made; it takes about 5 GB for a while")
    parser.add_argument("--python", default=sys._base_executable, help="of the other end (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bundle-", dir=options.work) as name:
        return _run(Path(name), options.python)


def _run(folder: Path, python: str) -> int:
    model = shutil.move(embedding_model(folder / "made", "bert"), folder / _FOLDER_MODEL)
    archive, seconds = _make(folder, f"{DEFAULT_MODEL.name},{model}")
    report = _closed(folder, archive, python)
    wanted = {DEFAULT_MODEL.name: local_folder(DEFAULT_MODEL), _FOLDER_MODEL: Path(model)}
    references = {name: _reference(path) for name, path in wanted.items()}
    sizes = {
        "archive": archive.stat().st_size,
        "installed, one release": _bytes(folder / "closed" / "installed" / "current" / "venv"),
        "models": _bytes(folder / "closed" / "installed" / "models"),
    }
    failures = []
    for moment in ("vectors", "vectors after the upgrade", "vectors of the new release"):
        for model_name, reference in references.items():
            error = float(np.abs(np.array(report[moment][model_name]) - reference).max())
            _row(f"{moment}: {model_name}", f"largest difference {error:.1e}")
            if not error <= _TOLERANCE:
                failures.append(f"{moment} of {model_name} are not the reference's")
    if report["exit status"] != 0 or ".post1-" not in report["runs from"]:
        failures.append("the upgrade did not take its place in order")
    if report["pip check"]:
        failures.append(report["pip check"])
    for damage, refusal in refusals(archive, folder / "damaged").items():
        _row(damage, refusal.replace(str(folder), "...") or "INSTALLED")
        if not refusal:
            failures.append(f"an archive was installed: {damage}")
    _row("a connection out of the network", str(report["routes"]))
    for what, size in sizes.items():
        _row(what, f"{size / 1e6:,.0f} MB")
    for what, took in {"make": seconds, **report["seconds"]}.items():
        _row(what, f"{took:,.1f} s")
    for failure in failures:
        _row("FAILED", failure)
    return bool(failures)


def _make(folder: Path, models: str) -> tuple[Path, float]:
    started = time.monotonic()
    command = [sys.executable, "-m", "bundle", "--models", models, "--output", str(folder / "out")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1800)
    (archive,) = (folder / "out").glob("*.tar")
    return archive, time.monotonic() - started


def _closed(folder: Path, archive: Path, python: str) -> dict[str, Any]:
    """Go the rest of the way in a network namespace, with an environment that has nothing in it."""
    place, report = folder / "closed", folder / "report.json"
    place.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "LANG": "C.UTF-8", "PYTHON": python}
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    names = f"{DEFAULT_MODEL.name},{_FOLDER_MODEL}"
    command = [*unshare, sys.executable, "-m", "tests.bundle.closed", str(archive), str(place), str(report)]
    subprocess.run([*command, "--models", names], cwd=ROOT, env=environment, check=True, timeout=3600)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def _reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS)


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.resolve().rglob("*") if path.is_file())


def _row(what: str, value: str) -> None:
    print(f"{what:<60} {value}", flush=True)  # noqa: T201 (a command line)


if __name__ == "__main__":
    sys.exit(main())
