"""Making a bundle: models, wheels, installer and checksums in one archive."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bundle.archive import pack, seal
from bundle.compose import gather_compose
from bundle.images import save_images
from bundle.installer.machine import this_machine
from bundle.installer.release import ABOUT
from bundle.models import gather_models, requirements
from bundle.wheels import gather_wheels, needed_glibc, unpacked_bytes
from shared import __version__
from shared.model_config import ModelConfig

ROOT = Path(__file__).parents[1]
#: Where no commit tells the time: the first that a wheel can carry, in seconds.
_NO_TIME = 315532800


def make(configs: list[ModelConfig], extras: str, output: Path, *, images: bool) -> Path:
    """Make a bundle.

    Args:
        configs: The models that it serves.
        extras: Of the project, with commas.
        output: Folder of the archive.
        images: Whether it carries the container images too.

    Returns:
        The archive.
    """
    started = time.monotonic()
    epoch = _epoch()
    machine = this_machine()  # what the wheels are for: whatever this environment runs on
    name = f"millrace-{__version__}-{machine['system']}-{machine['processor']}-py{machine['python']}".lower()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output) as place:
        folder = Path(place) / name
        folder.mkdir()
        _say(started, "models")
        models = gather_models(configs, folder)
        _say(started, "wheels")
        gather_wheels(ROOT, extras, requirements(configs), folder / "wheels", epoch)
        if images:
            _say(started, "images")
            save_images(ROOT, folder / "images")
            gather_compose(ROOT, folder, models)
        _say(started, "archive")
        machine["glibc"] = needed_glibc(folder / "wheels")
        describe(folder, __version__, machine, models)
        archive = output / f"{name}.tar"
        digest = pack(folder, archive, epoch)
    _say(started, f"{archive}: {archive.stat().st_size / 1e6:,.0f} MB, sha256 {digest}")
    return archive


def describe(folder: Path, version: str, machine: dict[str, str], models: list[dict[str, Any]]) -> None:
    """Add what the other end needs to know, the installer, and the checksums."""
    shutil.copy(ROOT / "bundle" / "install.sh", folder)
    shutil.copytree(ROOT / "bundle" / "installer", folder / "installer", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "python-version").write_text(machine["python"] + "\n")
    about = {
        "version": version,
        "machine": machine,
        "models": models,
        "installed_bytes": unpacked_bytes(folder / "wheels")
        + sum(path.stat().st_size for path in folder.glob("models/**/*") if path.is_file()),
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    seal(folder)


def _epoch() -> int:
    """The time that all files in the archive bear: of the commit, so that the same tree makes the same archive."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return _NO_TIME


def _say(started: float, line: str) -> None:
    sys.stdout.write(f"{time.monotonic() - started:6.1f} s  {line}\n")
    sys.stdout.flush()
