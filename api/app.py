"""The gateway's composition root: settings in, ASGI application out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from api.backlog import GATEWAY
from api.bulk.batch_routes import add_batch_routes
from api.bulk.embedding import Embedding
from api.bulk.job_routes import add_job_routes
from api.bulk.jobs_off import add_refusals
from api.bulk.webhook_routes import add_webhook_routes
from api.console.page import add_console
from api.core import Core
from api.deep_check import add_deep_check
from api.dialect import prefixes_of
from api.dialect_paths import DialectPaths
from api.gate import Gate
from api.health import add_health_routes, public_paths
from api.middleware import RequestId
from api.openapi import ABOUT, PATH, add_documentation_aliases, add_schema_route, operation_id
from api.routing import add_routes, close_patterns
from api.settings import ApiSettings, names
from api.status import add_status_route
from api.usage_route import add_usage_route
from shared import __version__
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.metrics import Metrics, Owner
from shared.tracing import Tracing


def create_app(settings: ApiSettings) -> FastAPI:
    """Build the gateway. Connects when the application starts, not before.

    Raises:
        ConfigurationError: The keys file is missing or wrong, or traces are on and their packages are missing.
    """
    metrics = Metrics(Owner.GATEWAY)
    tracing, traceparent = _tracing(settings)
    core = Core(settings, metrics, name=GATEWAY, max_pending_items=settings.max_pending_items, traceparent=traceparent)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with core.running():
            yield
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = FastAPIOffline(
        title="Millrace",
        summary="Embeddings and reranking as a service on a queue",
        description=ABOUT,
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        static_url="/docs/static",
        openapi_url=PATH,
        generate_unique_id_function=operation_id,
    )
    app.state.leaving = False
    add_routes(app, core.dialects, core.contenders, core.endpoint, core.catalog, settings)
    table, store = JobTable(core.redis), Store(settings.store_url())
    add_job_routes(
        app,
        redis=core.redis,
        table=table,
        store=store,
        catalog=core.catalog,
        embedding=Embedding(core.dispatcher, metrics, core.usage),
        settings=settings,
    )
    if settings.jobs:
        add_batch_routes(app, redis=core.redis, table=table, store=store, contenders=core.contenders, settings=settings)
        add_webhook_routes(app, redis=core.redis, table=table, settings=settings)
    else:
        add_refusals(app)
    add_usage_route(app, core.usage)
    prefixes = prefixes_of(core.dialects.values())
    public = public_paths(settings, prefixes) if core.register.is_on else None
    add_schema_route(app, public, list(core.dialects.values()))
    add_documentation_aliases(app)
    add_health_routes(app, core.catalog, core.fleet, core.admission, metrics, core.redis, settings, prefixes)
    add_status_route(app, core.catalog, core.fleet, core.admission, core.backlog, core.redis)
    add_console(app)
    add_deep_check(app, core.catalog, core.dispatcher)
    close_patterns(app)
    if core.register.is_on:
        app.add_middleware(
            Gate,
            register=core.register,
            limits=core.limits,
            public=public_paths(settings, prefixes),
            dialects=DialectPaths(core.dialects.values(), core.contenders),
            routes=app.router.routes,
            metrics=metrics,
            usual_timeout_s=settings.request_timeout_s,
        )
    # Outermost: what the gate refuses has an id and a line in the log too.
    app.add_middleware(RequestId, access_log=settings.access_log)
    if settings.cors_origins:
        # Around the gate, so that a page can read a refusal, and a browser's question before the request needs no key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=names(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    if tracing is not None:
        from api.tracing import Traced

        app.add_middleware(Traced, tracing=tracing)
    return app


def _tracing(settings: ApiSettings) -> tuple[Tracing | None, Callable[[], str]]:
    """Where spans are sent, and the trace of the request under way; None and empty where traces are off."""
    if not settings.otlp_endpoint:
        return None, str
    tracing = Tracing(settings.otlp_endpoint, "millrace-gateway", socket.gethostname(), chooses=True)
    from api.tracing import current_traceparent  # OpenTelemetry, which need not be installed otherwise

    return tracing, current_traceparent
