"""The wheels of a bundle: the project, everything it needs at the pinned versions, and pip."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

#: glibc's versions behind manylinux's old names.
_OLD_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
#: Files beside the packages that the project's wheel is made of.
_PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")


class NoWheels(Exception):
    """The wheels cannot be had; the message is one sentence."""


def gather_wheels(root: Path, extras: str, others: Iterable[str], folder: Path, epoch: int) -> None:
    """Put every wheel into a folder, as this environment's pip finds them.

    Args:
        root: The source tree.
        extras: Of the project, with commas.
        others: More requirements, such as packages that carry models.
        folder: Where they go.
        epoch: The time of all files in the project's wheel, in seconds; the same tree makes the same wheel.

    Raises:
        NoWheels: pip could not do it; it has said why.
    """
    with tempfile.TemporaryDirectory() as name:
        constraints = Path(name) / "constraints.txt"
        constraints.write_text(_constraints(root))
        project = project_wheel(root, Path(name), epoch)
        wanted = [f"{project}[{extras}]", f"pip=={version('pip')}", *others]
        _run_pip(["--constraint", str(constraints), *wanted], folder)


def project_wheel(root: Path, folder: Path, epoch: int) -> Path:
    """Build the project's wheel, from a copy: an old `build/` in the tree would get into it."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        for file in _PROJECT_FILES:
            shutil.copyfile(root / file, source / file)
        packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
        for package in {package.partition(".")[0] for package in packages}:
            shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        _run_pip(["--no-deps", str(source)], folder, epoch)
    return next(folder.glob("millrace-*.whl"))


def needed_glibc(folder: Path) -> str:
    """The oldest glibc on which all the wheels run; `0` where none says."""
    needed = [min(found) for path in folder.glob("*.whl") if (found := _glibc_versions(path.name))]
    return ".".join(map(str, max(needed, default=(0,))))


def unpacked_bytes(folder: Path) -> int:
    """What the wheels take when they are installed, without compiled code."""
    total = 0
    for path in folder.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            total += sum(entry.file_size for entry in wheel.infolist())
    return total


def _constraints(root: Path) -> str:
    """The pinned versions; torch as it is installed here, whose build (CPU, CUDA) the pinned one does not name."""
    lines = (root / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("torch==")]
    return "\n".join([*kept, f"torch=={version('torch')}", ""])


def _run_pip(arguments: list[str], folder: Path, epoch: int | None = None) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder), *arguments]
    environment = dict(os.environ) if epoch is None else {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    if subprocess.run(command, check=False, env=environment).returncode:
        raise NoWheels("the wheels cannot be had; pip says why above")


def _glibc_versions(wheel: str) -> list[tuple[int, ...]]:
    """The glibc versions that a wheel's tags name, each of which is enough."""
    found = [(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d+)_(\d+)", wheel)]
    return [*found, *(glibc for name, glibc in _OLD_NAMES.items() if re.search(rf"{name}_", wheel))]
