"""The real processes under test: server, gateway, worker, echo; each on a free port of loopback, logging to a file."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import redis

from millrace import embedded_redis
from shared.parent_death import die_with_parent

#: Time for the model to be loaded and run once.
_READY_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 15.0
_POLL_S = 0.1
_LOG_TAIL_LINES = 15


class BenchFailed(Exception):
    """There is nothing to report: a process died, or an answer was wrong."""


class Service:
    """One process under test, started when built."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._log_path = folder / f"{name}.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the benchmark only, which stops them in order
                preexec_fn=die_with_parent,  # safe: this process has one thread
            )

    def wait(self, is_ready: Callable[[], bool]) -> None:
        """Wait until `is_ready()`.

        Raises:
            BenchFailed: The process died, or took too long.
        """
        give_up_at = time.monotonic() + _READY_TIMEOUT_S
        while not is_ready():
            if self._process.poll() is not None:
                raise BenchFailed(
                    f"{self.name} ended with status {self._process.returncode}:\n{log_tail(self._log_path)}"
                )
            if time.monotonic() > give_up_at:
                raise BenchFailed(f"{self.name} was not ready in {_READY_TIMEOUT_S:.0f} s:\n{log_tail(self._log_path)}")
            time.sleep(_POLL_S)

    def keep_to(self, cores: Sequence[int]) -> None:
        """Run on these cores only, and what it starts from now on too."""
        psutil.Process(self._process.pid).cpu_affinity(list(cores))

    def memory_mb(self) -> float:
        """Resident memory of the process and its children, in MB."""
        process = psutil.Process(self._process.pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service."""

    redis_url: str
    worker: Service
    #: Of each gateway.
    ports: Sequence[int]
    #: All processes by name.
    services: Mapping[str, Service]
    #: Of the worker's own metrics.
    metrics_port: int

    @property
    def port(self) -> int:
        """Port of the first gateway; 0 without one."""
        return self.ports[0] if self.ports else 0

    def wait_ready(self) -> None:
        """Wait until the worker has run its model, and the gateways know."""
        if not self.ports:
            self.worker.wait(self._has_lease)
        for port in self.ports:
            self.worker.wait(partial(_is_ready, port))

    def memory_mb(self) -> dict[str, float]:
        """Resident memory in MB, by process."""
        return {name: round(service.memory_mb(), 1) for name, service in self.services.items()}

    def worker_metrics(self) -> str:
        """The worker's metrics, as Prometheus reads them."""
        return _get(self.metrics_port, "/metrics").decode()

    def _has_lease(self) -> bool:
        from shared import keys

        with redis.Redis.from_url(self.redis_url) as client:
            return bool(client.zcard(keys.LEASES))


@contextmanager
def running_stack(
    folder: Path,
    *,
    engine: str | None,
    gateways: int = 1,
    gateway: str = "api",
    jobs: bool = False,
    settings: Mapping[str, str] | None = None,
    worker_cores: Sequence[int] = (),
) -> Iterator[Stack]:
    """Start a server of its own, a worker, and gateways; stop them at the end.

    Args:
        folder: Where logs and the server's file go.
        engine: Module to run as the engine process; None for the real one.
        gateways: How many to start, each on a port of its own.
        gateway: Module to run as a gateway.
        jobs: Whether to start a job runner too.
        settings: More environment variables.
        worker_cores: Cores that the worker keeps to; all when empty.
    """
    folder.mkdir()
    with ExitStack() as running:
        redis_port, metrics_port, *ports = (embedded_redis.free_port() for _ in range(2 + gateways))
        redis_url = f"redis://127.0.0.1:{redis_port}/0"
        environment = {
            "MILLRACE_REDIS_URL": redis_url,
            "MILLRACE_HOST": "127.0.0.1",
            "MILLRACE_WORKER_METRICS_PORT": str(metrics_port),
            "MILLRACE_RUNNER_METRICS_PORT": "0",
            "MILLRACE_STORE": str(folder / "store"),
            **(settings or {}),
        }
        if engine is not None:
            environment["MILLRACE_ENGINE"] = engine

        services: dict[str, Service] = {}

        def start(name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> Service:
            services[name] = service = Service(name, command, environment | dict(more or {}), folder)
            running.callback(service.stop)
            return service

        server = start("server", embedded_redis.command(embedded_redis.server_binary(), redis_port, folder))
        server.wait(lambda: _answers_ping(redis_url))
        worker = start("worker", [sys.executable, "-m", "workers"])
        if worker_cores:
            worker.keep_to(worker_cores)  # long before it starts its engine
        for number, port in enumerate(ports):
            start(f"gateway-{number}", [sys.executable, "-m", gateway], {"MILLRACE_PORT": str(port)})
        if jobs:
            start("jobs", [sys.executable, "-m", "api.bulk"])
        yield Stack(redis_url, worker, ports, services, metrics_port)


@contextmanager
def running_echo(folder: Path) -> Iterator[int]:
    """Start the bare echo; yields its port."""
    port = embedded_redis.free_port()
    service = Service("echo", [sys.executable, "-m", "bench.echo", str(port)], {}, folder)
    try:
        service.wait(lambda: get_status(port, "/echo") == 405)
        yield port
    finally:
        service.stop()


def get_status(port: int, path: str) -> int:
    """Status of a GET; 0 while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def get_json(port: int, path: str) -> Any:
    """The JSON answer of a GET."""
    return json.loads(_get(port, path))


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _is_ready(port: int) -> bool:
    return get_status(port, "/ready") == 200


def post(port: int, path: str, body: Mapping[str, Any]) -> Any:
    """The JSON answer of a POST.

    Raises:
        BenchFailed: It is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise BenchFailed(f"POST {path} was answered with {response.status}: {answer[:300].decode(errors='replace')}")
    return json.loads(answer)


def log_tail(path: Path) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _answers_ping(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
