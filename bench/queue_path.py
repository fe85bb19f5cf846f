"""`python -m bench.queue_path`: the gateway's queue side without HTTP, a measuring process.

What the gateway is built on runs here on uvloop, and `concurrency` coroutines each send a text
and wait for its vector. With the null engine behind the worker this is the cost of the queue itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import uvloop
from pydantic import SecretStr

from api.core import Core
from api.dispatch import Dispatcher
from api.settings import ApiSettings
from bench.commands import answer_commands
from bench.measurement import Measurement, of_latencies
from bench.texts import short_texts
from shared import deadline as deadlines
from shared.jobs import EmbedRequest
from shared.metrics import Metrics, Owner
from shared.queues import Lane

_READY_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 120.0
_POLL_S = 0.02


@asynccontextmanager
async def _dispatcher(url: str, model: str, tasks_in_flight_per_worker: int) -> AsyncIterator[Dispatcher]:
    """A dispatcher that knows its worker and is subscribed to its replies."""
    changes = {"redis_url": SecretStr(url), "tasks_in_flight_per_worker": tasks_in_flight_per_worker}
    settings = ApiSettings.load().model_copy(update=changes)
    core = Core(settings, Metrics(Owner.GATEWAY), name="gw", max_pending_items=settings.max_pending_items)
    async with core.running():
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await core.replies.subscribed.wait()
            while core.fleet.card(model) is None:  # noqa: ASYNC110 - the fleet polls, and has no event
                await asyncio.sleep(_POLL_S)
        yield core.dispatcher


async def _closed_loop(url: str, tasks_in_flight_per_worker: int, concurrency: int, seconds: float) -> Measurement:
    """Single-text requests, the next when the last is answered, for `seconds`; all are awaited."""
    texts = short_texts()
    model = ApiSettings.load().models()[0].name
    numbers = count()
    latencies_s: list[float] = []

    async def send_one_after_another(dispatcher: Dispatcher, stop_at: float) -> None:
        while (since := time.perf_counter()) < stop_at:
            number = next(numbers)
            request = EmbedRequest(
                request_id=str(number),
                deadline=deadlines.after(_REQUEST_TIMEOUT_S),
                texts=[texts[number % len(texts)]],
            )
            output = await dispatcher.run(model, Lane.INTERACTIVE, request)
            if output.shape[0] != 1 or len(output.data) != 4 * output.shape[1]:
                raise RuntimeError(f"a vector of shape {output.shape} came back in {len(output.data)} bytes")
            latencies_s.append(time.perf_counter() - since)

    async with _dispatcher(url, model, tasks_in_flight_per_worker) as dispatcher:
        started, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(send_one_after_another(dispatcher, started + seconds))
        finished, cpu = time.perf_counter(), time.process_time() - cpu
    return of_latencies(latencies_s, texts=len(latencies_s), seconds=finished - started, client_cpu_s=cpu)


def _prepare() -> dict[str, Callable[..., Any]]:
    return {"closed_loop": lambda **arguments: uvloop.run(_closed_loop(**arguments)).to_json()}


if __name__ == "__main__":
    answer_commands(_prepare)
