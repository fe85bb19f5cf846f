"""Probes and metrics: `/health` (the process answers), `/ready` (every configured model has run), `/metrics`."""

from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from api.catalog import Catalog
from api.dispatch import Dispatcher
from api.fleet import Fleet
from shared import __version__
from shared.metrics import Metrics
from shared.queues import Lane, queue_name


def add_health_routes(
    app: FastAPI, catalog: Catalog, fleet: Fleet, dispatcher: Dispatcher, metrics: Metrics, redis: Redis
) -> None:
    """Add the three routes."""

    @app.get("/health", summary="Is this process alive?", tags=["operations"])
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/ready", summary="Has every configured model a worker that ran it?", tags=["operations"])
    async def ready() -> Response:
        missing = catalog.missing()
        is_ready = fleet.reachable and not missing
        body = {"ready": is_ready, "redis": fleet.reachable, "missing_models": missing, "workers": len(fleet.workers)}
        return JSONResponse(body, status_code=200 if is_ready else 503)

    @app.get("/metrics", summary="Prometheus metrics", tags=["operations"])
    async def show_metrics() -> Response:
        metrics.gauge("millrace_pending_requests").set(dispatcher.pending_requests)
        metrics.gauge("millrace_pending_items").set(dispatcher.pending_items)
        metrics.gauge("te_queue_size").set(dispatcher.pending_items)
        await _measure_queues()
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _measure_queues() -> None:
        lanes = [(config.name, lane) for config in catalog.models for lane in Lane]
        for config in catalog.models:
            metrics.gauge("millrace_workers", model=config.name).set(fleet.workers_of(config.name))
        try:
            async with redis.pipeline(transaction=False) as pipe:
                for model, lane in lanes:
                    pipe.llen(queue_name(model, lane))
                lengths = await pipe.execute()
        except (RedisError, OSError):
            return  # the last known lengths stand; `/ready` and the fleet's log tell that Redis is away
        for (model, lane), length in zip(lanes, lengths, strict=True):
            metrics.gauge("millrace_queue_length", model=model, lane=str(lane)).set(length)
