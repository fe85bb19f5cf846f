"""The gateway alone, as a process of its own: `python -m api`, without workers."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until


@dataclass(frozen=True)
class GatewayProcess:
    """One that runs."""

    process: psutil.Process
    port: int

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Bytes that it has."""
        return int(self.process.memory_info().rss)

    def answers(self, path: str = "/livez") -> bool:
        """Whether it says 200."""
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        metrics = httpx.get(f"{self.url}/metrics", trust_env=False).text
        (line,) = [line for line in metrics.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@contextmanager
def gateway_process(
    redis_url: str, folder: Path, *, preexec: Callable[[], None] | None = None, **settings: object
) -> Iterator[GatewayProcess]:
    """Start one.

    Args:
        redis_url: Its server.
        folder: Where its store is.
        preexec: Called in the new process before it becomes the gateway.
        settings: Further ones, as they are called without `MILLRACE_`, in small letters.
    """
    port = free_port()
    given = {"redis_url": redis_url, "port": port, "store": folder, **settings}
    environment = {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "api"], env={**psutil.Process().environ(), **environment}, preexec_fn=preexec
    ) as process:
        gateway = GatewayProcess(psutil.Process(process.pid), port)
        try:
            wait_until(gateway.answers, timeout_s=30, what="the gateway")
            yield gateway
        finally:
            process.terminate()
