"""A small bundle that the real installer installs: pip, and a package `millrace` that only says how it was started."""

import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from bundle.archive import pack
from bundle.installer.machine import this_machine
from bundle.make import describe

_MODULE = """\
import os, sys

def main():
    print("{version}", sys.prefix, os.environ.get("HF_HUB_OFFLINE"), os.environ.get("MILLRACE_MODELS_FILE"))
    return {status}
"""


def small_bundle(
    folder: Path,
    version: str,
    *,
    starts: bool = True,
    models: Mapping[str, bytes] | None = None,
    machine: Mapping[str, str] | None = None,
) -> Path:
    """Write an unpacked bundle.

    Args:
        folder: Where; created.
        version: Of the package.
        starts: Whether its command does.
        models: Names of models, with their weights.
        machine: Where it says that it is for another machine than this one.
    """
    bundle = folder / f"millrace-{version}"
    (bundle / "wheels").mkdir(parents=True)
    _write_wheel(bundle / "wheels", version, 0 if starts else 1)
    _write_pip(bundle / "wheels")
    entries: list[dict[str, Any]] = []
    for name, weights in (models or {}).items():
        model = bundle / "models" / name
        model.mkdir(parents=True)
        (model / "model.safetensors").write_bytes(weights)
        (model / "millrace-manifest.json").write_text(json.dumps({"weights": weights.decode()}))
        entries.append({"name": name, "folder": f"models/{name}"})
    describe(bundle, version, {**this_machine(), "glibc": "2.5", **(machine or {})}, entries)
    return bundle


def archive_of(bundle: Path) -> Path:
    """The bundle's archive, beside it, with its checksum."""
    archive = bundle.with_name(f"{bundle.name}.tar")
    pack(bundle, archive, 0)
    return archive


def _write_wheel(folder: Path, version: str, status: int) -> None:
    about = f"millrace-{version}.dist-info"
    files = {
        "millwheel.py": _MODULE.format(version=version, status=status),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: millrace\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nmillrace = millwheel:main\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"millrace-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _write_pip(folder: Path) -> None:
    """A wheel of the pip that is installed here; its files are those of its wheel."""
    pip = distribution("pip")
    with zipfile.ZipFile(folder / f"pip-{pip.version}-py3-none-any.whl", "w") as wheel:
        for file in pip.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                wheel.write(Path(str(file.locate())), file.as_posix())
