"""What the test needs of Debian: an engine, its plug-ins, and what makes a base image."""

import os
import platform
import shutil
from pathlib import Path

from tests.ops.commands import CommandFailed, Unavailable, run

#: Programs, and the packages that have them.
_PROGRAMS = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
}
#: The plug-ins are in a newer Debian than the machine's may be. They are one static program each.
_PLUGINS = ("docker-compose", "docker-buildx")
_PLUGINS_SUITE = "trixie"
_APT_TIMEOUT_S = 900


def install() -> None:
    """Install what is missing.

    Raises:
        Unavailable: This is not Debian, or not root.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable("`make test-ops` starts a container engine of its own: it needs root on Debian")
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            try:
                run(["apt-get", *command], timeout_s=_APT_TIMEOUT_S, environment=environment)
            except CommandFailed as err:
                raise Unavailable(f"Debian's packages {' '.join(missing)} cannot be installed: {err}") from err


def unpack_plugins(config: Path, work: Path) -> None:
    """Put compose and buildx into a configuration folder of the client.

    Args:
        config: The folder (`DOCKER_CONFIG`).
        work: Where apt keeps its lists, so that the machine's sources stay as they are.
    """
    plugins = config / "cli-plugins"
    if all((plugins / name).exists() for name in _PLUGINS):
        return
    plugins.mkdir(parents=True, exist_ok=True)
    state, debs = work / "apt", work / "debs"
    for folder in (state / "lists" / "partial", state / "cache" / "archives" / "partial", debs):
        folder.mkdir(parents=True, exist_ok=True)
    sources = state / "sources.list"
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(f"deb [signed-by={key}] http://deb.debian.org/debian {_PLUGINS_SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": str(state / "lists"),
        "Dir::Cache": str(state / "cache"),
        "APT::Sandbox::User": "root",
    }
    settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    try:
        run(["apt-get", *settings, "update", "-qq"], timeout_s=_APT_TIMEOUT_S)
        run(["apt-get", *settings, "download", "-qq", *_PLUGINS], timeout_s=_APT_TIMEOUT_S, folder=debs)
    except CommandFailed as err:
        raise Unavailable(f"the plug-ins of Debian {_PLUGINS_SUITE} cannot be had: {err}") from err
    for package in debs.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(package), str(work / "unpacked")], timeout_s=60)
    for name in _PLUGINS:
        shutil.copy(next((work / "unpacked").rglob(f"cli-plugins/{name}")), plugins / name)


def architecture() -> str:
    """The machine's, as images call it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
