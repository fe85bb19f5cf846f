"""The images that a registry would give: Debian's, made from its packages, and stand-ins for those of others."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.ops.commands import CommandFailed, Unavailable, run
from tests.ops.engine import HOST_ADDRESS, Engine

#: The name that the Dockerfiles use.
DEBIAN = "debian:bookworm-slim"
_BARE = "millrace-test/debian"
#: What Debian's slim image leaves out.
_LEFT_OUT = ("doc", "info", "lintian", "linda", "locale", "man")
#: On the engine's bridge, where nobody else listens. Always the same, since another address would mean another build.
_INDEX_PORT = 3141
_STAND_INS = Path(__file__).parent / "stand_ins"
#: Images of others, by the variable of `.env` that names them.
STAND_INS = {
    "VALKEY_IMAGE": "millrace-test/valkey",
    "PROMETHEUS_IMAGE": "millrace-test/prometheus",
    "ALERTMANAGER_IMAGE": "millrace-test/alertmanager",
}


def make_debian(engine: Engine, work: Path, log: Path) -> None:
    """Make Debian's slim image, and teach it how this machine reaches its package indexes."""
    archive = work / "debian.tar"
    if not archive.exists():
        made = archive.with_suffix(".part.tar")
        excludes = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        run(
            ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", *excludes, "bookworm", str(made)],
            timeout_s=900,
            log=log,
        )
        made.rename(archive)
    # Imported anew it would be another image, and all that was built on it would be built again.
    if not engine.docker("images", "--quiet", _BARE):
        engine.docker("import", str(archive), _BARE, timeout_s=300)
    context = work / "debian"
    shutil.rmtree(context, ignore_errors=True)
    (context / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", context / "etc/ssl/certs/")
    (context / "etc/pip.conf").write_text(_pip_configuration())
    dockerfile = work / "debian.Dockerfile"
    dockerfile.write_text(f"FROM {_BARE}\nCOPY . /\n")
    engine.build(dockerfile, context, DEBIAN, log=log)


def make_stand_ins(engine: Engine, log: Path) -> None:
    """Build the images that take the place of others'."""
    for image in STAND_INS.values():
        engine.build(_STAND_INS / f"{image.rpartition('/')[2]}.Dockerfile", _STAND_INS, image, log=log)


@contextmanager
def torch_index(work: Path, version: str) -> Iterator[str]:
    """An index of packages that has the CPU build of torch, as PyTorch's own has; its address as builds reach it.

    Raises:
        Unavailable: pip does not find that build here.
    """
    folder = work / "index" / "torch"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        try:
            run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), f"torch=={version}+cpu"],
                timeout_s=900,
            )
        except CommandFailed as err:
            raise Unavailable(
                f"pip finds no torch {version}+cpu here (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS): {err}"
            ) from err
    server = ThreadingHTTPServer((HOST_ADDRESS, _INDEX_PORT), partial(_Quiet, directory=str(folder.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{HOST_ADDRESS}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def _pip_configuration() -> str:
    """The address of this machine's index, and whom to believe."""
    index = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL", index)
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt", f"trusted-host = {HOST_ADDRESS}", "timeout = 180"]
    return "\n".join([*lines, *([f"index-url = {index}"] if index else [])]) + "\n"
