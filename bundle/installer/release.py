"""A release: an environment, models and a command made of a bundle, and the one that is current."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import Refused, say
from .contents import SUMS, sha256, verify
from .machine import check_machine

#: What a bundle is; in a release it says that the release is whole.
ABOUT = "bundle.json"
#: In a model's folder; its hash tells two revisions of a model apart.
MANIFEST = "millrace-manifest.json"
#: How many releases are kept, the new one included.
_KEPT = 2

_LAUNCHER = """\
#!/bin/sh
# Runs the Millrace that was installed last. The model hub is switched off, models come from files.
current={current}
export HF_HUB_OFFLINE="${{HF_HUB_OFFLINE:-1}}"
if [ -f "$current/models.yaml" ]; then
    export MILLRACE_MODELS_FILE="${{MILLRACE_MODELS_FILE:-$current/models.yaml}}"
fi
exec "$current/venv/bin/millrace" "$@"
"""


def install(bundle: Path, to: Path) -> None:
    """Install an unpacked bundle, and make it the current one when it is whole.

    Raises:
        Refused: The bundle is damaged, or is not for this machine.
    """
    verify(bundle)
    about: dict[str, Any] = json.loads((bundle / ABOUT).read_text())
    check_machine(about, to)
    release = to / "releases" / f"{about['version']}-{sha256(bundle / SUMS)[:8]}"
    if (release / ABOUT).exists() and _starts(release / "venv"):
        say(f"Millrace {about['version']} of this bundle is installed already.")
    else:
        shutil.rmtree(release, ignore_errors=True)  # of an attempt that did not end
        _install_packages(bundle, release / "venv")
        _write_models_file(bundle, about, release, to / "models")
        # Last: a release with it is whole.
        _write(release / ABOUT, json.dumps(about, indent=2) + "\n")
    _write(to / "millrace", _LAUNCHER.format(current=shlex.quote(str(to / "current"))), mode=0o755)
    _switch(to, release)
    _remove_old(to)
    if (bundle / "compose").is_dir():
        say("Its container images are not installed by this: compose/load.sh in the unpacked archive does that.")
    say(f"Millrace {about['version']} is installed. Start it: {to / 'millrace'} serve")


def _install_packages(bundle: Path, venv: Path) -> None:
    wheels = bundle / "wheels"
    say("Installing packages ...")
    # Without pip: not every system's Python has it to give. The bundle does, and a wheel can be run as it is.
    if _run([sys.executable, "-m", "venv", "--without-pip", str(venv)]):
        raise Refused(f"{sys.executable} cannot make an environment; it says why above")
    pip = next(wheels.glob("pip-*.whl")) / "pip"
    # A wheel is called name-version-tags. The bundle names everything, so that nothing is left to resolve.
    pinned = ["{}=={}".format(*path.name.split("-")[:2]) for path in sorted(wheels.glob("*.whl"))]
    command = [str(venv / "bin" / "python"), str(pip), "install", "--quiet", "--no-input", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--no-index", "--find-links", str(wheels), "--no-deps", *pinned]
    if _run(command):
        raise Refused("the packages could not be installed; pip says why above")
    if not _starts(venv):
        raise Refused("the installed command does not start; its last lines above say why")


def _starts(venv: Path) -> bool:
    try:
        return _run([str(venv / "bin" / "millrace"), "--version"]) == 0
    except OSError:  # it is not there, or its Python has gone
        return False


def _run(command: list[str]) -> int:
    """Exit status of a command that sees nothing which would let pip or Python look elsewhere than into the bundle."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment = {**kept, "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL).returncode


def _write_models_file(bundle: Path, about: dict[str, Any], release: Path, models: Path) -> None:
    """Put the models into their place and say where; a bundle of the default model alone has none to say."""
    if not about["models"]:
        return
    entries = []
    for entry in about["models"]:
        placed = dict(entry)
        if "folder" in entry:
            placed["source"] = str(_placed(bundle / placed.pop("folder"), models))
        if "int8_ranges" in entry:
            ranges = release / Path(entry["int8_ranges"]).name
            shutil.copyfile(bundle / entry["int8_ranges"], ranges)
            placed["int8_ranges"] = str(ranges)
        entries.append(placed)
    # JSON is YAML too, and needs no library here.
    _write(release / "models.yaml", json.dumps({"models": entries}, indent=2) + "\n")


def _placed(source: Path, models: Path) -> Path:
    """A model's folder among the installed ones; one that is there already is the same."""
    target = models / f"{source.name}-{sha256(source / MANIFEST)[:8]}"
    if not target.exists():
        say(f"Copying {source.name} ...")
        models.mkdir(exist_ok=True)
        partial = models / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(target)
    return target


def _switch(to: Path, release: Path) -> None:
    """Make a release the current one, in one step."""
    fresh = to / ".current"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(release.relative_to(to))
    fresh.replace(to / "current")
    (release / ABOUT).touch()  # the newest is the one installed last


def _remove_old(to: Path) -> None:
    """Leave the last releases, for processes that still run from them and for a way back, and the models of those."""
    found = sorted((to / "releases").iterdir(), key=_installed_at, reverse=True)
    for release in found[_KEPT:]:
        shutil.rmtree(release, ignore_errors=True)
    kept = "".join(path.read_text() for path in (to / "releases").glob("*/models.yaml"))
    models = to / "models"
    for model in models.iterdir() if models.is_dir() else ():
        if json.dumps(str(model)) not in kept:
            shutil.rmtree(model, ignore_errors=True)


def _installed_at(release: Path) -> float:
    about = release / ABOUT
    return about.stat().st_mtime if about.exists() else 0.0


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)
