"""The OpenAPI document: what FastAPI writes of the routes, and the keys that they ask for."""

from collections.abc import Collection
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.aside import aside

PATH = "/openapi.json"
_PAGES = (PATH, "/docs", "/redoc")

_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's clients send it."},
}


def document(app: FastAPI, public: Collection[str] | None) -> dict[str, Any]:
    """The document.

    Args:
        app: The gateway.
        public: Paths whose GET needs no key; None where nothing needs one.
    """
    described = app.openapi()
    if public is None:
        return described
    components = {**described.get("components", {}), "securitySchemes": _SCHEMES}
    paths = {
        path: {
            method: {**item, "security": []} if method == "get" and path in public else item
            for method, item in methods.items()
        }
        for path, methods in described["paths"].items()
    }
    return {**described, "components": components, "paths": paths, "security": [{name: []} for name in _SCHEMES]}


def add_schema_route(app: FastAPI, public: Collection[str] | None) -> None:
    """Serve the document in FastAPI's place, which writes it in the event loop: nearly a second, the first time.

    Args:
        app: The gateway.
        public: As for `document`.
    """

    async def schema(_: Request) -> Response:
        return Response(await aside(lambda: orjson.dumps(document(app, public))), media_type="application/json")

    # Before FastAPI's own, behind the look-up of the routes that are asked all the time.
    app.router.routes.insert(1, Route(PATH, schema))


def add_documentation_aliases(app: FastAPI) -> None:
    """Serve the pages of the documentation with a trailing slash and for HEAD too, as all else that is read is."""
    for route in [route for route in app.router.routes if isinstance(route, Route) and route.path in _PAGES]:
        app.router.routes += [Route(path, route.endpoint) for path in (route.path, f"{route.path}/")]
