"""Probes and metrics: is this process alive, is the service ready, what has it done.

Alive means that this process answers (`/livez`; `/health`, `/ping` and `/` are what TEI, Infinity and SageMaker say, and
at `/` browsers get the console); ready (`/readyz`, `/ready`) that Redis does too and some model has a worker that ran it, or
gets one when work waits (`cold_start_s`): a model without a worker is no reason to take the others away. `?models=all` asks
for every model, `?model=` for one. A gateway that is not ready is not to be restarted: it holds requests until their
deadline.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api import schemas, wire
from api.admission import Admission
from api.bulk.answers import answering
from api.catalog import Catalog
from api.console.page import CONSOLE_PATHS, front
from api.coverage import CoverageGauges
from api.dialect import prefixed
from api.error_responses import OF_ALL, error_responses
from api.fleet import Fleet
from api.openapi import also_at
from api.redis_gauges import measure_redis
from api.settings import ApiSettings
from shared import __version__
from shared.errors import InvalidRequest, ModelNotFound
from shared.metrics import Metrics
from shared.queues import Lane

LIVENESS_PATHS = ("/livez", "/health", "/ping")
READINESS_PATHS = ("/readyz", "/ready")
#: The probes of all dialects.
PROBES = frozenset({"/", *LIVENESS_PATHS, *READINESS_PATHS, "/.well-known/live", "/.well-known/ready"})
#: What is asked for so often that it is worth neither a line in the log nor a trace.
QUIET_PATHS = (PROBES | {"/metrics"}) - {"/"}
_TAGS: list[str] = ["operations"]


def public_paths(settings: ApiSettings, prefixes: Sequence[str]) -> frozenset[str]:
    """The paths that need no key: probes, the console's files, and the metrics if the deployment says so.

    Args:
        settings: The gateway's.
        prefixes: Under which dialects are served by themselves, probes included.
    """
    more = [] if settings.metrics_need_key else ["/metrics"]
    under_prefixes = prefixed(prefixes, ["/", *LIVENESS_PATHS, *READINESS_PATHS, *more])
    return frozenset({*PROBES, *CONSOLE_PATHS, *filter(None, [settings.vertex_health_route]), *more, *under_prefixes})


class Liveness(BaseModel):
    """Response of the liveness probes."""

    status: str
    version: str
    unix: float = Field(description="The time here, in seconds.")


class Asked(StrEnum):
    """Which models have to be there for a gateway to be ready."""

    #: What a load balancer asks: whether there is any use in sending requests here.
    ANY = "any"
    #: What a start or a roll-out waits for.
    ALL = "all"


class ReadinessQuery(BaseModel):
    """Query of the readiness probes."""

    models: Asked = Field(Asked.ANY, description="Whether any model is enough, or all of them have to be there.")
    model: str | None = Field(None, description="The one model that has to be there, by name or alias.")


class Condition(StrEnum):
    """How much of what is configured can be served."""

    OK = "ok"
    #: Some models are missing.
    DEGRADED = "degraded"
    #: Redis or all models are missing.
    UNAVAILABLE = "unavailable"


class Readiness(BaseModel):
    """Response of the readiness probes; the status is 200 if ready and else 503."""

    ready: bool = Field(description="Whether what was asked for can be served: any model, all of them, or one.")
    status: Condition = Field(
        description="`ok`, `degraded` if some models are missing, `unavailable` if nothing is served."
    )
    leaving: bool = Field(description="Whether this gateway has been told to stop; it still answers for a while.")
    redis: bool = Field(description="Whether Redis answers.")
    missing_models: list[str] = Field(description="Models that should have a worker and that no live one has run.")
    sleeping_models: list[str] = Field(description="Models that have no worker and get one when work waits for them.")
    workers: int
    wedged_workers: int = Field(description="Those of them that do not get on though work waits.")
    unix: float = Field(description="The time here, in seconds.")


class Stats(BaseModel):
    """Response of `GET /stats` (Smart-Embedder): what this gateway process has done."""

    uptime: str
    uptime_seconds: int
    total_requests: int
    total_sentences: int = Field(description="Texts and documents of all requests.")
    total_batches: int = Field(description="Tasks that this gateway has published; workers batch them further.")
    rejected_requests: int = Field(description="Requests refused because too much was waiting.")
    lost_workers: int = Field(description="Workers of the deployment that died or fell silent, ever.")
    hardware: str = Field(description="Devices of the live workers.")
    placement: dict[str, list[str]] = Field(description="Devices that have run each model.")


def add_health_routes(
    app: FastAPI,
    catalog: Catalog,
    fleet: Fleet,
    admission: Admission,
    metrics: Metrics,
    redis: Redis,
    settings: ApiSettings,
    prefixes: Sequence[str],
) -> None:
    """Add the probes, `/stats` and `/metrics`, each with and without a trailing slash, and for HEAD.

    All but `/stats` are served under the dialects' prefixes too: who sets one as a base URL has its probes there.
    """
    started = time.monotonic()
    coverage = CoverageGauges(catalog, metrics)
    showing, shown, shown_at = asyncio.Lock(), b"", 0.0

    async def is_alive() -> Response:
        return JSONResponse({"status": "ok", "version": __version__, "unix": time.time()})

    async def is_ready(request: Request) -> Response:
        query = wire.validated(ReadinessQuery, dict(request.query_params))
        missing = catalog.missing()
        if query.model is not None:
            served = catalog.named(query.model).name not in missing
        else:
            served = not missing if query.models is Asked.ALL else catalog.can_serve()
        ready = fleet.reachable and served and not app.state.leaving
        body = {
            "ready": ready,
            "status": _condition(catalog, reachable=fleet.reachable),
            "leaving": app.state.leaving,
            "redis": fleet.reachable,
            "missing_models": missing,
            "sleeping_models": catalog.sleeping(),
            "workers": len(fleet.workers),
            "wedged_workers": fleet.wedged_workers(),
            "unix": time.time(),
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def show_stats() -> Response:
        uptime_s = int(time.monotonic() - started)
        hours, minutes, seconds = uptime_s // 3600, uptime_s // 60 % 60, uptime_s % 60
        stats = {
            "uptime": f"{hours}h {minutes}m {seconds}s",
            "uptime_seconds": uptime_s,
            "total_requests": _total(metrics, "millrace_requests_total"),
            "total_sentences": _total(metrics, "millrace_request_items_sum"),
            "total_batches": _total(metrics, "millrace_tasks_published_total"),
            "rejected_requests": _total(metrics, "millrace_requests_total", code="overloaded"),
            "lost_workers": fleet.lost_workers,
            "hardware": ", ".join(worker.device for worker in fleet.workers.values()) or "none",
            "placement": {config.name: fleet.devices_of(config.name) for config in catalog.models},
        }
        return JSONResponse(stats)

    async def show_metrics() -> Response:
        nonlocal shown, shown_at
        arrived_at = time.monotonic()
        # Written once for all who came meanwhile: it takes some milliseconds, and no key.
        async with showing:
            if shown_at < arrived_at:
                began_at = time.monotonic()
                shown, shown_at = await exposition(), began_at
        return Response(shown, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def exposition() -> bytes:
        metrics.gauge("te_queue_size").set(admission.pending_items)
        for config in catalog.models:
            metrics.gauge("millrace_workers", model=config.name).set(fleet.workers_of(config.name))
            for lane in Lane:
                backlog = metrics.gauge("millrace_backlog_seconds", model=config.name, lane=str(lane))
                backlog.set(admission.backlog_s(config.name, lane))
        coverage.measure(await measure_redis(redis, metrics, [config.name for config in catalog.models]))
        return metrics.exposition()

    ready_paths = [*READINESS_PATHS, *filter(None, [settings.vertex_health_route])]
    under = {path: prefixed(prefixes, [path]) for path in ("/", *LIVENESS_PATHS, *READINESS_PATHS, "/metrics")}
    _add_hidden(app, under["/"], is_alive)
    _add(app, LIVENESS_PATHS, is_alive, "Is this process alive?", Liveness, under)
    summary = "The console for browsers; is this process alive?"
    page = {"text/html": {"schema": {"type": "string"}}}
    _add(app, ["/"], front(is_alive), summary, Liveness, {}, content=page, description=also_at(under["/"]))
    unready: dict[int | str, dict[str, Any]] = {
        **error_responses([wire.NestedErrors()], (InvalidRequest, ModelNotFound)),
        503: {"model": Readiness, "description": "Not ready: this says what is missing."},
    }
    summary = "Can models be served: any, all of them, one?"
    _add(app, ready_paths, answering(is_ready), summary, Readiness, under, more=unready, query=ReadinessQuery)
    refused = error_responses([wire.NestedErrors()], OF_ALL)
    _add(app, ["/stats"], show_stats, "What this gateway has done (Smart-Embedder)", Stats, under, more=refused)
    _add(app, ["/metrics"], show_metrics, "Prometheus metrics", str, under, PlainTextResponse, more=refused)


def _condition(catalog: Catalog, *, reachable: bool) -> Condition:
    if not reachable or not catalog.can_serve():
        return Condition.UNAVAILABLE
    return Condition.DEGRADED if catalog.missing() else Condition.OK


def _add(
    app: FastAPI,
    paths: Sequence[str],
    show: Callable[..., Any],
    summary: str,
    response: Any,
    under: Mapping[str, Sequence[str]],
    response_class: type[Response] = JSONResponse,
    content: Mapping[str, Any] | None = None,
    more: Mapping[int | str, dict[str, Any]] | None = None,
    description: str = "",
    query: type[BaseModel] | None = None,
) -> None:
    """Add a view at some paths, and at what each of them is under the dialects' prefixes."""
    parameters = schemas.query_parameters(query) if query is not None else []
    for path in paths:
        app.add_api_route(
            path,
            show,
            summary=summary,
            description=description or also_at(under.get(path, ())),
            tags=[*_TAGS],
            response_model=None,
            responses={
                200: {
                    "model": response,
                    "description": "The answer.",
                    **({"content": dict(content)} if content else {}),
                },
                **(more or {}),
            },
            openapi_extra={"parameters": parameters},
            response_class=response_class,
        )
        _add_hidden(app, [path, *under.get(path, ())], show)


def _add_hidden(app: FastAPI, paths: Sequence[str], show: Callable[..., Any]) -> None:
    for path in paths:
        for other in {path, f"{path.rstrip('/')}/"}:
            app.add_api_route(other, show, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def _total(metrics: Metrics, name: str, **labels: str) -> int:
    """The sum of a metric's samples that have these labels."""
    samples = [sample for family in metrics.registry.collect() for sample in family.samples if sample.name == name]
    return int(sum(sample.value for sample in samples if labels.items() <= sample.labels.items()))
