"""Callbacks as they really run, without models: the gateway's routes, the runner's pump, callback worker processes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.bulk.pump import CallbackPump
from api.bulk.webhook_routes import add_webhook_routes
from api.settings import ApiSettings
from shared.bulk.jobs import Delivery, Job, State, WebhookEndpoint
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry
from tests.helpers.bulk_jobs import add_job, spec
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

ValueT = TypeVar("ValueT")
ROOT = Path(__file__).parents[2]


class Callbacks:
    """One Redis, one store, a gateway and a pump in a thread of this process, and workers beside it."""

    def __init__(self, redis_url: str, folder: Path, **settings: Any) -> None:
        given = {"webhook_hosts": "127.0.0.1", "webhook_retries_s": "0.2,0.2,0.2", **settings}
        self.settings = ApiSettings(redis_url=SecretStr(redis_url), store=str(folder / "store"), **given)
        self.environment = {
            "MILLRACE_REDIS_URL": redis_url,
            "MILLRACE_STORE": str(folder / "store"),
            "MILLRACE_CALLBACKS_METRICS_PORT": "0",
            "MILLRACE_LOG_LEVEL": "info",
            **{f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()},
        }
        self.log_file = folder / "callbacks.log"
        self.store = Store(str(folder / "store"))
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._redis = Redis.from_url(redis_url)
        self.table = JobTable(self._redis)
        self.registry = WebhookRegistry(self._redis, self.settings.allowed_webhook_hosts())
        app = FastAPI()
        add_webhook_routes(app, redis=self._redis, table=self.table, settings=self.settings)
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None, access_log=False))
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._pump: asyncio.Task[None] | None = None

    def start(self, *, workers: int = 1) -> None:
        """Start all of it."""
        self._thread.start()
        wait_until(lambda: self._server.started, what="the gateway")
        for _ in range(workers):
            self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more callback worker and wait until it consumes."""
        before = self.log().count("worker_ready")
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.callbacks"],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        self.processes.append(process)

        def is_ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the callback worker ended with {process.returncode}:\n{self.log()}")
            return self.log().count("worker_ready") > before

        wait_until(is_ready, timeout_s=30, what="the callback worker")
        return process

    def stop(self) -> None:
        """End all of it."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)
        self._server.should_exit = True
        self._thread.join(10)

    def log(self) -> str:
        """What the workers have printed."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def call(self, coroutine: Awaitable[ValueT]) -> ValueT:
        """Run a coroutine where the gateway runs."""

        async def awaited() -> ValueT:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(30)

    def client(self) -> httpx.Client:
        """A client of the gateway."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30)

    def endpoint(self, url: str, **fields: Any) -> WebhookEndpoint:
        """A webhook endpoint."""
        endpoint = self.registry.new(url, **fields)
        self.call(self.registry.keep(endpoint))
        return endpoint

    def job(self, job_id: str = "job_1", *, segments: int = 2, **fields: Any) -> Job:
        """A job whose segments have been run; `delivery` fields and `spec` fields by name."""
        delivery = {name: fields.pop(name) for name in list(fields) if name in Delivery.model_fields}
        made = {name: fields.pop(name) for name in ("kinds", "ids", "size", "state") if name in fields}
        job_spec = spec(job_id, delivery=Delivery(**delivery), **fields)
        return self.call(
            add_job(self.table, self.store, job_spec, segments=segments, **{"state": State.COMPLETED, **made})
        )

    def find(self, job_id: str = "job_1") -> Job:
        """A job as it stands."""
        return self.call(self.table.get(job_id))

    def wait_until_sent(self, job_id: str = "job_1", *, timeout_s: float = 20.0) -> Job:
        """Wait until a job has no more callbacks to send."""

        def is_sent() -> bool:
            try:
                return job_id not in self.call(self.table.delivering()) and self.find(job_id).callbacks_pending == 0
            except RedisError:  # it was restarted a moment ago
                return False

        self._wait(is_sent, timeout_s)
        return self.find(job_id)

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        try:
            wait_until(condition, timeout_s=timeout_s, what="callbacks")
        except TimeoutError as err:
            raise AssertionError(f"callbacks were not sent; the workers' log:\n{self.log()}") from err

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        pump = asyncio.create_task(CallbackPump(self._redis, self.table, self.settings).run())
        await self._server.serve()
        while not pump.done():  # more than once: `asyncio.wait_for` can swallow a cancellation (Python 3.11)
            pump.cancel()
            await asyncio.wait([pump], timeout=0.05)
        await self._redis.aclose()
