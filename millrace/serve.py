"""`millrace serve`: the whole service on one machine, in the foreground, under one supervisor."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import httpx
from redis.exceptions import RedisError

from millrace import embedded_redis
from millrace.console import print_ready
from millrace.keys import first_key, key_header
from millrace.processes import Part
from millrace.settings import ServeSettings
from shared.logging import configure_logging, get_logger
from shared.operations import LIVENESS_PATH
from shared.redis_address import connect, without_password
from shared.settings import PREFIX

log = get_logger("millrace.serve")

#: How much longer than its drain time a part may take to end, in seconds.
_STOP_SLACK_S = 5.0
#: How often a part is asked whether it is well, and how long it may take to say so, in seconds.
_ASK_EVERY_S, _ASK_TIMEOUT_S = 1.0, 5.0


class CannotServe(Exception):
    """The service cannot start; one sentence for the operator."""


def serve(settings: ServeSettings) -> int:
    """Run the service until SIGINT or SIGTERM.

    Returns:
        The exit status: 0 after a clean stop.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        _check_ports(settings)
        with _state_lock(settings.state_dir):
            asyncio.run(Supervisor(settings).run())
    except (CannotServe, embedded_redis.NoServer) as err:
        sys.stderr.write(f"millrace: {err}\n")
        return 1
    return 0


class Supervisor:
    """Starts the parts in order, keeps them alive, stops them in order."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._own_redis: Part | None = None
        self._gateway: Part | None = None
        self._workers: list[Part] = []
        self._runner: Part | None = None
        self._callbacks: Part | None = None
        self._flower: Part | None = None
        self._stopping = asyncio.Event()
        self._failed: str | None = None

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            CannotServe: A part cannot start.
        """
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        watchers: list[asyncio.Task[None]] = []
        try:
            url = await self._redis_url()
            await self._start_parts(url)
            watchers = [asyncio.create_task(self._keep_alive(part)) for part in self._parts()]
            watchers += [asyncio.create_task(self._keep_well(part)) for part in self._parts() if part.liveness_url]
            if await self._first_answer():
                print_ready(self._settings, len(self._workers), time.monotonic() - started)
            await self._stopping.wait()
        finally:
            for watcher in watchers:
                watcher.cancel()
            await self._stop_parts()
        if self._failed:
            raise CannotServe(self._failed)

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            log.warning("killed_on_second_signal")
            for part in self._parts():
                part.kill()
        self._stopping.set()

    def _parts(self) -> list[Part]:
        return [
            part
            for part in (self._own_redis, self._gateway, self._runner, self._callbacks, *self._workers, self._flower)
            if part is not None
        ]

    async def _redis_url(self) -> str:
        """The server named by the environment, or one of our own."""
        if PREFIX + "REDIS_URL" in os.environ:
            url = self._settings.redis_url.get_secret_value()
            await asyncio.to_thread(_ping, url)
            return url
        port = embedded_redis.free_port()
        command = embedded_redis.command(embedded_redis.server_binary(), port, self._settings.state_dir)
        # Told to end, so that what it was told is on the disk for the next start.
        self._own_redis = self._part("redis", command, {}, orphaned=signal.SIGTERM)
        await self._own_redis.start()
        url = f"redis://127.0.0.1:{port}/0"
        deadline = time.monotonic() + 60
        while True:
            try:
                await asyncio.to_thread(_ping, url)
            except CannotServe:
                if self._own_redis.pid is None:
                    raise CannotServe("the embedded Redis server ended at its start; its log is above") from None
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return url

    async def _start_parts(self, url: str) -> None:
        environment = {
            PREFIX + "REDIS_URL": url,
            PREFIX + "STORE": self._settings.store or str(self._settings.state_dir / "store"),
            "PYTHONUNBUFFERED": "1",
        }
        # Workers first: they take longest.
        gpus = _gpus() if self._settings.device == "auto" else 0
        for index in range(max(1, gpus)):
            port = self._settings.worker_metrics_port
            own = {
                PREFIX + "WORKER_NAME": f"gpu-{index}" if gpus else "worker",
                PREFIX + "WORKER_METRICS_PORT": str(port + index if port else 0),
            }
            if gpus:
                own["CUDA_VISIBLE_DEVICES"] = str(index)
            name = f"worker-{index}" if gpus > 1 else "worker"
            command = [sys.executable, "-m", "workers"]
            liveness_url = _liveness_url(self._settings.worker_metrics_host, port + index if port else 0)
            self._workers.append(self._part(name, command, {**environment, **own}, liveness_url=liveness_url))
        self._gateway = self._part("gateway", [sys.executable, "-m", "api"], environment)
        settings = self._settings
        liveness_url = _liveness_url(settings.runner_metrics_host, settings.runner_metrics_port)
        self._runner = self._part("jobs", [sys.executable, "-m", "api.bulk"], environment, liveness_url=liveness_url)
        liveness_url = _liveness_url(settings.callbacks_metrics_host, settings.callbacks_metrics_port)
        self._callbacks = self._part(
            "callbacks", [sys.executable, "-m", "workers.callbacks"], environment, liveness_url=liveness_url
        )
        if self._settings.flower_port:
            self._flower = self._part("flower", [sys.executable, "-m", "millrace.flower"], environment)
        for part in self._parts():
            if part is not self._own_redis:
                await part.start()

    def _part(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        orphaned: signal.Signals = signal.SIGKILL,
        liveness_url: str = "",
    ) -> Part:
        plain_log = self._settings.log_format == "json"
        return Part(name, command, environment, plain_log=plain_log, orphaned=orphaned, liveness_url=liveness_url)

    async def _keep_alive(self, part: Part) -> None:
        while True:
            status = await part.wait()
            if self._stopping.is_set():
                return
            if status == os.EX_CONFIG:  # it would fail again in the same way
                self._fail(f"{part.name} cannot start; its last line above says why")
                return
            log.warning("part_died", part=part.name, status=status)
            await part.restart()

    async def _keep_well(self, part: Part) -> None:
        """Kill a part that says that it is wedged, or has said nothing for as long as that takes; it is then restarted."""
        wedged_after_s = self._settings.wedged_after_s
        async with httpx.AsyncClient(trust_env=False, timeout=_ASK_TIMEOUT_S) as client:
            pid, heard_at, patience_s = None, 0.0, 0.0
            while True:
                await asyncio.sleep(_ASK_EVERY_S)
                asked = part.pid
                reason = await _trouble(client, part.liveness_url)
                now = time.monotonic()
                if asked is None or asked != part.pid:
                    continue  # it has just died
                if pid != asked:
                    pid, heard_at, patience_s = asked, now, self._settings.start_timeout_s
                if reason == "":
                    heard_at, patience_s = now, wedged_after_s
                if reason or now - heard_at > patience_s:
                    log.error("part_wedged", part=part.name, reason=reason or f"no answer for {now - heard_at:.0f} s")
                    part.kill()
                    pid = None

    def _fail(self, reason: str) -> None:
        self._failed = self._failed or reason
        self._stopping.set()

    async def _first_answer(self) -> bool:
        """Wait until the service has answered a real request; False when it is stopped before that."""
        deadline = time.monotonic() + self._settings.start_timeout_s
        url, headers = _base_url(self._settings), key_header(first_key(self._settings.api_key.get_secret_value()))
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
            while not self._stopping.is_set():
                if time.monotonic() > deadline:
                    self._fail(f"no answer within {self._settings.start_timeout_s:.0f} s (MILLRACE_START_TIMEOUT_S)")
                    return False
                try:
                    if (await client.get("/ready")).status_code == 200 and await self._answers(client):
                        return True
                except httpx.HTTPError:
                    pass  # not up yet: the deadline above bounds the wait
                await asyncio.sleep(0.1)
        return False

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        rerank = {"query": "Is it ready?", "texts": ["It is ready."]}
        status = (await client.post("/rerank", json=rerank)).status_code
        # Of a keys file only hashes are known here. The worker has run its model before the service called itself ready.
        return status == 200 or (status == 401 and self._settings.keys_file is not None)

    async def _stop_parts(self) -> None:
        """Gateway first, so that what it accepted is still answered; the queue last."""
        log.info("stopping", drain_s=self._settings.drain_s)
        patience_s = self._settings.drain_s + _STOP_SLACK_S
        if self._gateway:
            await self._gateway.stop(patience_s)
        if self._runner:
            await self._runner.stop(patience_s)
        if self._callbacks:
            await self._callbacks.stop(patience_s)
        await asyncio.gather(*(worker.stop(patience_s) for worker in self._workers))
        if self._flower:
            await self._flower.stop(3)
        if self._own_redis:
            await self._own_redis.stop(10)
        log.info("stopped")


def _base_url(settings: ServeSettings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return _url(host, settings.port)


def _liveness_url(host: str, port: int) -> str:
    """Where a part says whether it is well; empty if its port is turned off."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{_url(host, port)}{LIVENESS_PATH}" if port else ""


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _trouble(client: httpx.AsyncClient, url: str) -> str | None:
    """What a part says is wrong with it; empty for nothing, None if it says nothing."""
    try:
        answer = await client.get(url)
    except httpx.HTTPError:
        return None
    return "" if answer.status_code == 200 else answer.text.strip()


def _ping(url: str) -> None:
    client = connect(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        client.ping()
    except (RedisError, OSError) as err:
        raise CannotServe(f"Redis at {without_password(url)} (MILLRACE_REDIS_URL) cannot be used: {err}") from err
    finally:
        client.close()


def _check_ports(settings: ServeSettings) -> None:
    wanted = [(settings.host, settings.port, "PORT")]
    if settings.flower_port:
        wanted.append((settings.flower_host, settings.flower_port, "FLOWER_PORT"))
    if settings.runner_metrics_port:
        wanted.append((settings.runner_metrics_host, settings.runner_metrics_port, "RUNNER_METRICS_PORT"))
    if settings.callbacks_metrics_port:
        wanted.append((settings.callbacks_metrics_host, settings.callbacks_metrics_port, "CALLBACKS_METRICS_PORT"))
    if settings.worker_metrics_port:
        wanted.append((settings.worker_metrics_host, settings.worker_metrics_port, "WORKER_METRICS_PORT"))
    for host, port, variable in wanted:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as err:
                reason = "is in use" if err.errno == 98 else f"cannot be opened ({err.strerror})"
                raise CannotServe(f"port {port} on {host} {reason}; choose another with {PREFIX}{variable}") from err


def _state_lock(folder: Path) -> IO[str]:
    """Hold the state folder: two servers on one append-only file would destroy it. Released when the file closes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as err:
        raise CannotServe(f"state folder {folder} (MILLRACE_STATE_DIR) cannot be written: {err.strerror}") from err
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        lock.close()
        raise CannotServe(
            f"state folder {folder} is used by another `millrace serve`; choose another with MILLRACE_STATE_DIR"
        ) from err
    return lock


def _gpus() -> int:
    """Number of NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return listing.stdout.count("GPU ") if listing.returncode == 0 else 0
