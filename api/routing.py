"""Dialects to FastAPI routes; several dialects may serve one path, and the body decides."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.routing import Route as StarletteRoute

from api.catalog import Catalog
from api.dialect import Dialect, Route, View
from api.endpoint import Endpoint
from api.settings import ApiSettings

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is not valid."},
    404: {"description": "No such model is served."},
    413: {"description": "The body or the batch is too large."},
    429: {"description": "Overloaded; retry after the seconds in `retry-after`."},
    503: {"description": "The queue cannot be reached."},
    504: {"description": "Not finished before the deadline."},
}


def add_routes(
    app: FastAPI, dialects: Mapping[str, Dialect], endpoint: Endpoint, catalog: Catalog, settings: ApiSettings
) -> None:
    """Add every dialect's routes, each with and without a trailing slash (clients do not follow a redirected POST)."""
    by_path: dict[str, list[tuple[Dialect, Route]]] = defaultdict(list)
    for dialect in dialects.values():
        for route in dialect.routes:
            by_path[route.path].append((dialect, route))
        for view in dialect.views:
            _add_view(app, dialect, view, catalog, settings)
    for path, contenders in by_path.items():
        _add_route(app, path, contenders, endpoint)


def _add_route(app: FastAPI, path: str, contenders: Sequence[tuple[Dialect, Route]], endpoint: Endpoint) -> None:
    async def answer(request: Request) -> Response:
        return await endpoint(request, contenders)

    schemas = [_schema(route.body) for _, route in contenders]
    body_schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    examples = {dialect.name: {"value": dict(route.example)} for dialect, route in contenders}
    app.add_api_route(
        path,
        answer,
        methods=["POST"],
        summary=" or ".join(dict.fromkeys(route.summary for _, route in contenders)),
        tags=[dialect.name for dialect, _ in contenders],
        operation_id=f"post{path.replace('/', '_')}",
        response_model=None,
        responses={**_ERRORS, 200: {"model": contenders[0][1].response}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body_schema, "examples": examples}},
            }
        },
    )
    # Plain Starlette routes in front answer: FastAPI's dependency solver has nothing to do here and costs 0.1 ms a request.
    # The route above is what the documentation is made from.
    app.router.routes[:0] = [
        StarletteRoute(path, answer, methods=["POST"]),
        StarletteRoute(f"{path}/", answer, methods=["POST"]),
    ]


def _add_view(app: FastAPI, dialect: Dialect, view: View, catalog: Catalog, settings: ApiSettings) -> None:
    async def show() -> Any:
        return view.render(catalog, settings)

    app.add_api_route(view.path, show, methods=["GET"], summary=view.summary, tags=[dialect.name], response_model=None)
    app.add_api_route(f"{view.path}/", show, methods=["GET"], include_in_schema=False, response_model=None)


def _schema(body: type[BaseModel]) -> dict[str, Any]:
    """The body's JSON schema with its definitions inlined, so that it stands alone in the route's documentation."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(definitions[node["$ref"].rsplit("/", 1)[-1]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(value) for value in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = inline(schema)
    return inlined
