"""A gateway as a process of its own, without workers."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class GatewayProcess:
    """One that runs."""

    url: str
    log_file: Path
    process: subprocess.Popen[bytes]

    def client(self, key: str | None = None, timeout_s: float = 30.0) -> httpx.Client:
        """A client of it, with a key."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    @property
    def port(self) -> int:
        """Of it, on this machine."""
        return int(self.url.rpartition(":")[2])

    def memory(self) -> int:
        """Bytes that it has."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def answers(self, path: str = "/livez") -> bool:
        """Whether it says 200."""
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@contextmanager
def gateway_process(
    redis_url: str,
    folder: Path,
    settings: Mapping[str, str],
    name: str = "gateway",
    preexec: Callable[[], None] | None = None,
) -> Iterator[GatewayProcess]:
    """Start one and wait until it answers; it is killed at the end of the block.

    Args:
        redis_url: Its server.
        folder: Where its store and its log go.
        settings: Further ones.
        name: Of its log.
        preexec: Called in the new process before it becomes the gateway.
    """
    port = free_port()
    environment = {
        **os.environ,
        **settings,
        "MILLRACE_PORT": str(port),
        "MILLRACE_REDIS_URL": redis_url,
        "MILLRACE_STORE": str(folder / "store"),
    }
    log_file = folder / f"{name}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            preexec_fn=preexec,
        )
    gateway = GatewayProcess(f"http://127.0.0.1:{port}", log_file, process)
    try:
        wait_until(lambda: _answers(gateway), timeout_s=60, what="the gateway to answer")
        yield gateway
    finally:
        process.kill()
        process.wait()


def _answers(gateway: GatewayProcess) -> bool:
    if gateway.process.poll() is not None:
        raise AssertionError(f"the gateway ended:\n{gateway.log()}")
    return gateway.answers()
