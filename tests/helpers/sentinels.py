"""A real primary, its replica, and three sentinels that promote the one when the other is gone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.helpers.valkey import ValkeyServer, executable, free_port
from tests.helpers.waiting import wait_until

MASTER = "millrace"
PASSWORD = "watchmen"
#: After so much silence a sentinel takes the primary for gone, in milliseconds.
_DOWN_AFTER_MS = 1000


@dataclass(frozen=True)
class Watched:
    """Servers that are watched."""

    primary: ValkeyServer
    replica: ValkeyServer
    sentinels: tuple[int, ...]

    def url(self) -> str:
        """The address to use: the first sentinel in it has never been there."""
        hosts = ";".join(f"sentinel://127.0.0.1:{port}" for port in (free_port(), *self.sentinels))
        return f"{hosts}/0?master={MASTER}&sentinel_password={PASSWORD}"

    def wait_for_promotion(self) -> None:
        """Wait until the replica is the primary."""
        with Redis.from_url(self.replica.url()) as redis:
            wait_until(lambda: _is_primary(redis), timeout_s=30, what="a promotion")


@contextmanager
def watched_servers(folder: Path) -> Iterator[Watched]:
    """Start all five, and wait until everybody knows everybody."""
    primary_folder, replica_folder = folder / "primary", folder / "replica"
    primary_folder.mkdir()
    replica_folder.mkdir()
    primary = ValkeyServer(primary_folder)
    replica = ValkeyServer(replica_folder, replica_of=primary)
    watched = Watched(primary, replica, tuple(free_port() for _ in range(3)))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        primary.start()
        replica.start()
        processes = [_start_sentinel(folder, port, primary.port) for port in watched.sentinels]
        wait_until(lambda: all(map(_knows_all, watched.sentinels)), timeout_s=30, what="the sentinels to meet")
        yield watched
    finally:
        for process in processes:
            process.kill()
            process.wait()
        replica.kill()
        primary.kill()


@contextmanager
def running_sentinel(folder: Path, primary: int) -> Iterator[int]:
    """The port of a sentinel that watches the server at a port, on its own, until the block ends."""
    port = free_port()
    process = _start_sentinel(folder, port, primary)
    try:
        wait_until(lambda: _state(port), timeout_s=30, what="the sentinel to see its primary")
        yield port
    finally:
        process.kill()
        process.wait()


def _start_sentinel(folder: Path, port: int, primary: int) -> subprocess.Popen[bytes]:
    file = folder / f"sentinel-{port}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel-{port}.log\n"
        f"requirepass {PASSWORD}\nsentinel sentinel-pass {PASSWORD}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {primary} 2\n"
        f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {MASTER} 10000\n"
    )
    return subprocess.Popen(
        [str(executable(folder)), str(file), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _is_primary(redis: Redis) -> bool:
    """Whether it has been promoted; on its way there it closes the connections of its clients."""
    try:
        return bool(redis.info("replication")["role"] == "master")
    except RedisError:
        return False


def _knows_all(port: int) -> bool:
    state = _state(port)
    return bool(state and state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


def _state(port: int) -> dict[str, Any]:
    """What a sentinel says of the primary; nothing while it has not reached it."""
    try:
        with Redis(port=port, password=PASSWORD, socket_timeout=1) as redis:
            state: dict[str, Any] = redis.sentinel_masters()[MASTER]
    except RedisError:
        return {}
    return {} if state["is_disconnected"] else state
