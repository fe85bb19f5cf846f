"""The gateway's composition root: settings in, ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from api.aside import aside
from api.bulk.batch_routes import add_batch_routes
from api.bulk.embedding import Embedding
from api.bulk.job_routes import add_job_routes
from api.bulk.webhook_routes import add_webhook_routes
from api.core import Core
from api.health import add_health_routes
from api.middleware import RequestId
from api.routing import add_routes
from api.settings import ApiSettings
from shared import __version__
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.metrics import Metrics, Owner

SCHEMA_PATH = "/openapi.json"


def create_app(settings: ApiSettings) -> FastAPI:
    """Build the gateway. Connects when the application starts, not before."""
    metrics = Metrics(Owner.GATEWAY)
    core = Core(settings, metrics, name="gw", max_pending_items=settings.max_pending_items)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with core.running():
            yield

    app = FastAPIOffline(
        title="Millrace",
        summary="Embeddings and reranking as a service on a queue",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        static_url="/docs/static",
        openapi_url=SCHEMA_PATH,
    )
    app.add_middleware(RequestId, access_log=settings.access_log)
    add_routes(app, core.dialects, core.contenders, core.endpoint, core.catalog, settings)
    table, store = JobTable(core.redis), Store(settings.store_url())
    add_batch_routes(
        app,
        redis=core.redis,
        table=table,
        store=store,
        contenders=core.contenders,
        settings=settings,
    )
    add_job_routes(
        app,
        redis=core.redis,
        table=table,
        store=store,
        catalog=core.catalog,
        embedding=Embedding(core.dispatcher, metrics),
        settings=settings,
    )
    add_webhook_routes(app, redis=core.redis, table=table, settings=settings)
    _add_schema_route(app)
    add_health_routes(app, core.catalog, core.fleet, core.dispatcher, metrics, core.redis, settings)
    return app


def _add_schema_route(app: FastAPI) -> None:
    """Serve the OpenAPI document in FastAPI's place, which writes it in the event loop: nearly a second, the first time."""

    async def schema(_: Request) -> Response:
        return Response(await aside(lambda: orjson.dumps(app.openapi())), media_type="application/json")

    # Before FastAPI's own, behind the look-up of the routes that are asked all the time.
    app.router.routes.insert(1, Route(SCHEMA_PATH, schema))
