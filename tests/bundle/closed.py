"""`python -m tests.bundle.closed`: what happens on a machine without a network; run in a network namespace of its own.

The bundle is unpacked, installed by its own script, and serves; while it does, it is installed again and upgraded.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bundle.archive import seal
from bundle.installer.release import ABOUT
from tests.helpers.service import Service

#: What is embedded; `tests.bundle` compares the vectors.
TEXTS = ["The weather is lovely today.", "He drove to the stadium.", "naïve café, 你好世界"]
#: An address that no route leads to: of the block for documentation.
_OUTSIDE = ("192.0.2.1", 443)

T = TypeVar("T")


def main() -> int:
    """Do it, and write what was seen as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bundle.closed", description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path, help="for everything that is unpacked and installed")
    parser.add_argument("report", type=Path, help="what was seen, as JSON")
    parser.add_argument("--models", required=True, help="names of the models to ask, with commas")
    options = parser.parse_args()
    seen = _Seen()
    seen.note("routes", _close())
    bundle = seen.time("unpack", lambda: _unpack(options.archive, options.folder / "unpacked"))
    to = options.folder / "installed"
    seen.time("install", lambda: _install(bundle, to))
    seen.note("pip check", _check(to / "current" / "venv"))
    models = options.models.split(",")
    service = Service(options.folder, {}, [str(to / "millrace")])
    try:
        seen.time("start to first answer", service.start)
        seen.note("vectors", seen.time("first vectors", lambda: _vectors(service, models)))
        seen.time("install again", lambda: _install(bundle, to))
        _change_version(bundle)
        seen.time("upgrade while serving", lambda: _install(bundle, to))
        seen.note("vectors after the upgrade", _vectors(service, models))
        seen.note("exit status", service.stop())
        service.log_file.unlink()
        seen.time("start of the new release", service.start)
        seen.note("vectors of the new release", _vectors(service, models))
        seen.note("runs from", service.part("workers").cmdline()[0])
    finally:
        service.stop()
        options.report.write_text(json.dumps(seen.found, indent=2))
    return 0


class _Seen:
    """What was seen, and the seconds that it took."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {"seconds": {}}

    def note(self, name: str, value: Any) -> None:
        self.found[name] = value

    def time(self, name: str, do: Callable[[], T]) -> T:
        started = time.monotonic()
        result = do()
        self.found["seconds"][name] = round(time.monotonic() - started, 2)
        return result


def _close() -> list[str]:
    """Leave loopback as the only way, and make sure of it; the destinations that can be reached."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True).stdout)
    with socket.socket() as probe:
        reached = probe.connect_ex(_OUTSIDE)
    routes = subprocess.run(["ip", "-json", "route"], check=True, capture_output=True).stdout
    if [link["ifname"] for link in links] != ["lo"] or json.loads(routes) or reached == 0:
        raise SystemExit("this is no closed network: start it with `unshare --net`")
    return [os.strerror(reached)]


def _unpack(archive: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(folder)], check=True)
    (bundle,) = folder.iterdir()
    return bundle


def _install(bundle: Path, to: Path) -> None:
    subprocess.run(["sh", str(bundle / "install.sh"), "--to", str(to)], check=True, timeout=1200)


def _check(venv: Path) -> str:
    """What the packages lack of each other."""
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout


def _change_version(bundle: Path) -> None:
    """Make the next bundle of an unpacked one."""
    about = json.loads((bundle / ABOUT).read_text())
    (bundle / ABOUT).write_text(json.dumps({**about, "version": f"{about['version']}.post1"}))
    seal(bundle)


def _vectors(service: Service, models: list[str]) -> dict[str, Any]:
    with service.client() as client:
        answers = {}
        for model in models:
            answer = client.post("/v1/embeddings", json={"input": TEXTS, "model": model, "encoding_format": "float"})
            answers[model] = [entry["embedding"] for entry in answer.raise_for_status().json()["data"]]
    return answers


if __name__ == "__main__":
    sys.exit(main())
