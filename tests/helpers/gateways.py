"""The gateway's bulk routes on a real HTTP server, without workers: a test says what became of the documents."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from api.bulk import documents
from api.bulk.embedding import Embedding
from api.bulk.job_routes import add_job_routes
from api.core import Core
from api.middleware import RequestId
from api.settings import ApiSettings
from shared.bulk.jobs import State
from shared.bulk.results import Part, SegmentResults
from shared.bulk.store import Store, input_path, output_path
from shared.bulk.table import JobTable
from shared.metrics import Metrics, Owner
from shared.results import Output
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

MODEL = "org/model"

ValueT = TypeVar("ValueT")


class BulkGateway:
    """One of them, in a thread."""

    def __init__(self, redis_url: str, folder: Path, **settings: Any) -> None:
        self.settings = ApiSettings(
            redis_url=SecretStr(redis_url), store=str(folder), model=MODEL, access_log=False, **settings
        )
        self.store = Store(self.settings.store_url())
        self.folder = folder
        self.port = free_port()
        self._redis_url = redis_url
        self.core = Core(
            self.settings, Metrics(Owner.GATEWAY), name="gw", max_pending_items=self.settings.max_pending_items
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(),
                port=self.port,
                log_config=None,
                access_log=False,
                http="httptools",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def _app(self) -> FastAPI:
        core = self.core

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with core.running():
                yield

        app = FastAPI(lifespan=lifespan, redirect_slashes=False)
        app.add_middleware(RequestId, access_log=False)
        add_job_routes(
            app,
            redis=core.redis,
            table=JobTable(core.redis),
            store=self.store,
            catalog=core.catalog,
            embedding=Embedding(core.dispatcher, Metrics(Owner.GATEWAY), core.usage),
            settings=self.settings,
        )
        return app

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._thread.start()
        wait_until(lambda: self._server.started, what="the gateway to listen")

    def stop(self) -> None:
        """End it; answers that are under way are broken off."""
        self._server.should_exit = True
        self._thread.join(10)

    def client(self, timeout_s: float = 30.0) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=timeout_s, trust_env=False)

    def table(self, use: Callable[[JobTable], Awaitable[ValueT]]) -> ValueT:
        """What a use of the job table gives."""

        async def run() -> ValueT:
            async with Redis.from_url(self._redis_url) as redis:
                return await use(JobTable(redis))

        return asyncio.run(run())

    def lines(self, job_id: str) -> list[bytes]:
        """All input lines of a job, from the store."""

        async def read(table: JobTable) -> list[bytes]:
            segments = await table.segments(job_id)
            return [
                line
                for number in range(len(segments))
                for line in self.store.read(input_path(job_id, number, segments[number].writer)).splitlines()
            ]

        return self.table(read)

    def run_segment(self, job_id: str, number: int) -> None:
        """Do what the job runner does; a document's vector is (its index, 1)."""

        async def run(table: JobTable) -> None:
            segment = await table.segment(job_id, number)
            data = self.store.read(input_path(job_id, number, segment.writer))
            found = [documents.parse(line) for line in data.splitlines()]
            places = [place for place, document in enumerate(found) if document.error is None]
            results = SegmentResults(
                first=segment.first,
                ids=[document.id for document in found],
                metadata={place: entry.metadata for place, entry in enumerate(found) if entry.metadata is not None},
                parts=[Part(places, _vectors([segment.first + place for place in places]))],
                errors={place: entry.error for place, entry in enumerate(found) if entry.error is not None},
            )
            packed = results.pack()
            self.store.write(output_path(job_id, number), packed)
            await table.complete(
                job_id,
                number,
                completed=len(places),
                failed=len(results.errors),
                tokens=results.tokens,
                input_bytes=len(data),
                result_bytes=len(packed),
                error_bytes=0,
            )

        self.table(run)

    def enter(self, job_id: str, state: State) -> None:
        """Bring a job into a state."""
        assert self.table(lambda table: table.enter(job_id, state, since=list(State)))


def _vectors(indices: Sequence[int]) -> Output:
    data = np.array([[index, 1] for index in indices], "<f4").reshape(-1, 2)
    return Output(shape=data.shape, data=data.tobytes(), tokens=len(indices))
