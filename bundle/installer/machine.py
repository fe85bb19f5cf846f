"""Whether a bundle can run on this machine."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from . import Refused


def this_machine() -> dict[str, str]:
    """What has to be the same where a bundle is made and where it is installed."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "python": "{}.{}".format(*sys.version_info[:2]),
    }


def check_machine(about: dict[str, Any], to: Path) -> None:
    """Whether the bundle can run here.

    Raises:
        Refused: It cannot.
    """
    made_for = about["machine"]
    for what, value in this_machine().items():
        if made_for[what] != value:
            raise Refused(f"this bundle is for {what} {made_for[what]}, and here it is {value}")
    family, version = platform.libc_ver()
    if family == "glibc" and _numbers(version) < _numbers(made_for["glibc"]):
        raise Refused(f"this bundle needs glibc {made_for['glibc']} or newer, and here it is {version}")
    free = shutil.disk_usage(to).free
    if free < about["installed_bytes"]:
        raise Refused(f"{to} has room for {free:,} bytes, and {about['installed_bytes']:,} are needed")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
