"""`GET /v1/status`: the whole deployment at a glance, for operators and for the console; faults are told in sentences."""

import time
from collections.abc import Mapping
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from api.access.caller import caller_of
from api.admission import Admission
from api.backlog import Backlog
from api.bulk.answers import add_route, json_answer
from api.catalog import Catalog
from api.fleet import Fleet
from api.queue_lengths import queue_lengths
from shared import __version__, keys
from shared.model_card import State, WorkerCard
from shared.model_config import ModelConfig
from shared.queues import CALLBACK_QUEUE, Lane

STATUS_PATH = "/v1/status"


class LaneStatus(BaseModel):
    """One lane of a model; all gateways and job runners together."""

    lane: Lane
    queued_tasks: int | None = Field(description="Tasks in the Redis list; null while Redis cannot be reached.")
    waiting_requests: int = Field(description="Requests without an answer, those that are computed included.")
    oldest_s: float = Field(description="Age of the oldest of them in seconds.")
    backlog_s: float = Field(description="Work that waits, at the workers' measured speed, in seconds.")
    answered_per_s: float = Field(description="Requests a second, over the last half minute.")
    p50_ms: float | None = Field(description="Median time of those, in milliseconds; null without any.")
    p95_ms: float | None = Field(description="What 95 of 100 of those stayed below, in milliseconds.")


class ModelStatus(BaseModel):
    """One configured model."""

    name: str
    aliases: list[str]
    ready: bool = Field(description="Whether a live worker has run it.")
    sleeping: bool = Field(description="Whether it has no worker and gets one when work waits (`cold_start_s`).")
    model_type: str | None = Field(
        description="`embedding`, `reranker` or `classifier`; null before any worker ran it."
    )
    operations: list[str]
    kinds: list[str] = Field(description="The kinds of vectors that it makes.")
    dimensions: int | None
    max_tokens: int | None
    workers: int = Field(description="Live workers that serve it.")
    tokens_per_s: float = Field(description="What they make together, by their own measurements.")
    lanes: list[LaneStatus]


class ModelOnWorker(BaseModel):
    """A model as one worker runs it."""

    name: str
    dtype: str
    tokens_per_s: float
    max_batch_tokens: int


class WorkerStatus(BaseModel):
    """One live worker."""

    worker: str
    hostname: str
    pid: int
    device: str
    state: State
    version: str
    models: list[ModelOnWorker]


class Parts(BaseModel):
    """Live processes beside the workers."""

    gateways: int
    job_runners: int
    callback_workers: int


class Status(BaseModel):
    """Response of `GET /v1/status`."""

    object: Literal["status"] = "status"
    version: str
    unix: float = Field(description="The time here, in seconds.")
    problems: list[str] = Field(description="What is wrong, in sentences; empty when all is well.")
    redis: bool = Field(description="Whether Redis answers; while it does not, the rest is what was last known.")
    lost_workers: int = Field(description="Workers that died or fell silent, ever.")
    parts: Parts
    active_jobs: int | None = Field(description="Bulk jobs that have not ended; null while Redis cannot be reached.")
    queued_callbacks: int | None = Field(description="Callbacks that no worker has taken yet.")
    models: list[ModelStatus]
    workers: list[WorkerStatus]


def problems(status: Status, *, leaving: bool) -> list[str]:
    """What is wrong, in sentences that say what it means.

    Args:
        status: All the rest of it.
        leaving: Whether this gateway has been told to stop.
    """
    found = ["This gateway has been told to stop; it still answers for a while."] if leaving else []
    if not status.redis:
        return [*found, "Redis cannot be reached: requests wait for it, and fail at their deadline."]
    found += [
        f"Worker {worker.worker} is wedged: work waits and nothing moves. It should be replaced."
        for worker in status.workers
        if worker.state == "wedged"
    ]
    for model in status.models:
        if not model.ready and not model.sleeping:
            states = sorted({worker.state for worker in status.workers if model.name in _names(worker)})
            why = (
                f"The workers of {model.name} are {' and '.join(states)}" if states else f"No worker runs {model.name}"
            )
            found.append(f"{why}: requests for it wait until their deadline.")
    if status.active_jobs and not status.parts.job_runners:
        found.append(f"{_number(status.active_jobs, 'bulk job')} and no job runner: start `millrace jobs`.")
    if status.queued_callbacks and not status.parts.callback_workers:
        waiting = _number(status.queued_callbacks, "callback")
        found.append(f"{waiting} and no callback worker: start `millrace worker --callbacks`.")
    return found


def add_status_route(
    app: FastAPI, catalog: Catalog, fleet: Fleet, admission: Admission, backlog: Backlog, redis: Redis
) -> None:
    """Add the route."""

    async def show(request: Request) -> Response:
        visible = catalog.within(caller_of(request).scope.models)
        lengths = await queue_lengths(redis, visible.models)
        jobs, callbacks = await _bulk_work(redis)
        status = Status(
            version=__version__,
            unix=time.time(),
            problems=[],
            redis=fleet.reachable and lengths is not None,
            lost_workers=fleet.lost_workers,
            parts=Parts(
                gateways=backlog.gateways, job_runners=backlog.runners, callback_workers=fleet.callback_workers
            ),
            active_jobs=jobs,
            queued_callbacks=callbacks,
            models=[_model(config, visible, fleet, admission, backlog, lengths or {}) for config in visible.models],
            workers=[_worker(card) for _, card in sorted(fleet.workers.items())],
        )
        status.problems = problems(status, leaving=app.state.leaving)
        return json_answer(status.model_dump(mode="json"))

    add_route(
        app,
        "GET",
        [STATUS_PATH],
        show,
        summary="The deployment at a glance: models, lanes, workers, problems",
        tag="operations",
        shown=Status,
    )


async def _bulk_work(redis: Redis) -> tuple[int | None, int | None]:
    """Bulk jobs that have not ended, and callbacks that wait for a worker."""
    try:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.ACTIVE_JOBS)
            pipe.llen(CALLBACK_QUEUE)
            jobs, callbacks = await pipe.execute()
    except (RedisError, OSError):
        return None, None
    return jobs, callbacks


def _model(
    config: ModelConfig,
    catalog: Catalog,
    fleet: Fleet,
    admission: Admission,
    backlog: Backlog,
    lengths: Mapping[tuple[str, Lane], int],
) -> ModelStatus:
    card, is_served = catalog.card(config.name), catalog.is_served(config.name)
    known: dict[str, Any] = {} if card is None else card.model_dump(include={"model_type", "dimensions", "max_tokens"})
    return ModelStatus(
        name=config.name,
        aliases=list(config.aliases),
        ready=is_served,
        sleeping=not is_served and catalog.cold_start_s(config.name) > 0,
        operations=[] if card is None else [str(operation) for operation in card.operations],
        kinds=[] if card is None else [str(kind) for kind in card.kinds],
        workers=fleet.workers_of(config.name),
        tokens_per_s=fleet.tokens_per_s(config.name),
        lanes=[_lane(config.name, lane, admission, backlog, lengths.get((config.name, lane))) for lane in Lane],
        **{"model_type": None, "dimensions": None, "max_tokens": None, **known},
    )


def _lane(model: str, lane: Lane, admission: Admission, backlog: Backlog, queued: int | None) -> LaneStatus:
    waits = backlog.waits.of(model, lane)
    return LaneStatus(
        lane=lane,
        queued_tasks=queued,
        waiting_requests=waits.waiting,
        oldest_s=round(waits.oldest_s, 3),
        backlog_s=round(admission.backlog_s(model, lane), 3),
        answered_per_s=round(waits.answered_per_s, 2),
        p50_ms=_ms(waits.p50_s),
        p95_ms=_ms(waits.p95_s),
    )


def _worker(card: WorkerCard) -> WorkerStatus:
    return WorkerStatus(
        **card.model_dump(include={"worker", "hostname", "pid", "device", "state", "version"}),
        models=[
            ModelOnWorker(
                name=model.name,
                dtype=model.dtype,
                tokens_per_s=model.tokens_per_s,
                max_batch_tokens=model.max_batch_tokens,
            )
            for model in card.models
        ],
    )


def _names(worker: WorkerStatus) -> set[str]:
    return {model.name for model in worker.models}


def _number(count: int, noun: str) -> str:
    return f"{count} {noun} waits" if count == 1 else f"{count} {noun}s wait"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
