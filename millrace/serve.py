"""`millrace serve`: the whole service on one machine, in the foreground, under one supervisor."""

import asyncio
import fcntl
import os
import signal
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
from millrace.pinned_workers import PinnedWorker, pinned_workers, worker_parts
from millrace.ports import check_ports, liveness_url, url_of
from millrace.processes import Part
from millrace.settings import ServeSettings
from millrace.supervision import STOP_SLACK_S, CannotServe, Supervision
from shared.logging import configure_logging, get_logger
from shared.model_config import ConfigurationError
from shared.redis_address import connect, without_password
from shared.settings import PREFIX

log = get_logger("millrace.serve")


def serve(settings: ServeSettings) -> int:
    """Run the service until SIGINT or SIGTERM.

    Returns:
        The exit status: 0 after a clean stop.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        workers = pinned_workers(settings)
        check_ports(_ports(settings, workers))
        with _state_lock(settings.state_dir):
            asyncio.run(Supervisor(settings, workers).run())
    except (CannotServe, ConfigurationError, embedded_redis.NoServer) as err:
        sys.stderr.write(f"millrace: {err}\n")
        return 1
    return 0


class Supervisor:
    """Starts the parts in order, keeps them alive, stops them in order."""

    def __init__(self, settings: ServeSettings, workers: Sequence[PinnedWorker]) -> None:
        self._settings = settings
        self._pinned = workers
        self._own_redis: Part | None = None
        self._gateway: Part | None = None
        self._workers: list[Part] = []
        self._runner: Part | None = None
        self._callbacks: Part | None = None
        self._flower: Part | None = None
        self._supervision = Supervision(
            wedged_after_s=settings.wedged_after_s, start_timeout_s=settings.start_timeout_s
        )

    async def run(self) -> None:
        """Serve until told to stop.

        Raises:
            CannotServe: A part cannot start.
        """
        started = time.monotonic()
        self._supervision.stop_on_signals()
        try:
            url = await self._redis_url()
            await self._start_parts(url)
            self._supervision.watch()
            if await self._first_answer():
                print_ready(self._settings, len(self._workers), time.monotonic() - started)
            await self._supervision.stopping.wait()
        finally:
            self._supervision.unwatch()
            await self._stop_parts()
        self._supervision.refuse_failure()

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
        await self._supervision.start(self._own_redis)
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
        settings = self._settings
        self._workers = worker_parts(self._pinned, settings, environment, plain_log=settings.log_format == "json")
        self._gateway = self._part("gateway", [sys.executable, "-m", "api"], environment)
        runner_url = liveness_url(settings.runner_metrics_host, settings.runner_metrics_port)
        self._runner = self._part("jobs", [sys.executable, "-m", "api.bulk"], environment, liveness_url=runner_url)
        callbacks_url = liveness_url(settings.callbacks_metrics_host, settings.callbacks_metrics_port)
        self._callbacks = self._part(
            "callbacks", [sys.executable, "-m", "workers.callbacks"], environment, liveness_url=callbacks_url
        )
        if settings.flower_port:
            self._flower = self._part("flower", [sys.executable, "-m", "millrace.flower"], environment)
        for part in (*self._workers, self._gateway, self._runner, self._callbacks, self._flower):
            if part is not None:
                await self._supervision.start(part)

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

    async def _first_answer(self) -> bool:
        """Wait until the service has answered a real request; False when it is stopped before that."""
        deadline = time.monotonic() + self._settings.start_timeout_s
        url, headers = _base_url(self._settings), key_header(first_key(self._settings.api_key.get_secret_value()))
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
            while not self._supervision.stopping.is_set():
                if time.monotonic() > deadline:
                    self._supervision.fail(
                        f"no answer within {self._settings.start_timeout_s:.0f} s (MILLRACE_START_TIMEOUT_S)"
                    )
                    return False
                try:
                    if (await client.get("/ready?models=all")).status_code == 200 and await self._answers(client):
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
        patience_s = self._settings.drain_s + STOP_SLACK_S
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
    return url_of(host, settings.port)


def _ping(url: str) -> None:
    client = connect(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        client.ping()
    except (RedisError, OSError) as err:
        raise CannotServe(f"Redis at {without_password(url)} (MILLRACE_REDIS_URL) cannot be used: {err}") from err
    finally:
        client.close()


def _ports(settings: ServeSettings, workers: Sequence[PinnedWorker]) -> list[tuple[str, int, str]]:
    """Where the parts will listen, and which settings say so."""
    return [
        (settings.host, settings.port, "PORT"),
        (settings.flower_host, settings.flower_port, "FLOWER_PORT"),
        (settings.runner_metrics_host, settings.runner_metrics_port, "RUNNER_METRICS_PORT"),
        (settings.callbacks_metrics_host, settings.callbacks_metrics_port, "CALLBACKS_METRICS_PORT"),
        *((settings.worker_metrics_host, worker.metrics_port, "WORKER_METRICS_PORT") for worker in workers),
    ]


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
