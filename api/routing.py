"""Dialects to FastAPI routes; several dialects may serve one path, and the body decides."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Union

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from api import schemas, wire
from api.access.caller import caller_of
from api.catalog import Catalog
from api.dialect import Dialect, Route, View
from api.endpoint import Endpoint
from api.settings import ApiSettings
from shared.errors import MethodNotAllowed, MillraceError, PathNotFound

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is not valid."},
    401: {"description": "The request has no valid API key, where one is needed."},
    403: {"description": "The API key does not allow this model, route or lane."},
    404: {"description": "No such model is served."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body or the batch is too large."},
    415: {"description": "The body is compressed in another way than gzip."},
    422: {"description": "The request is not valid, in the words of TEI and its clients."},
    424: {"description": "The model does not do this, or failed, in the words of TEI and its clients."},
    429: {"description": "Overloaded, or the key's limit is used up; retry after the seconds in `retry-after`."},
    503: {"description": "The queue cannot be reached."},
    504: {"description": "Not finished before the deadline."},
}
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


#: Where callers find what there is.
_WHERE = "the paths are listed at /docs and in /openapi.json"
#: Longest path that is repeated in an error.
_MOST_SHOWN = 200

Respond = Callable[[Request], Awaitable[Response]]


class PostRoutes(BaseRoute):
    """All POST routes behind one look-up by path: tried one after the other, three hundred would cost 0.1 ms a request."""

    def __init__(self) -> None:
        self._responds: dict[str, Respond] = {}
        #: Of paths with parameters, which are few.
        self._patterns: list[tuple[str, re.Pattern[str], Respond]] = []

    def add(self, path: str, respond: Respond) -> None:
        """Serve a path, with and without a trailing slash."""
        if "{" in path:
            self._patterns.append((path, re.compile(_PARAMETER.sub(r"(?P<\1>.+)", path) + "/?"), respond))
        else:
            self._responds[path] = self._responds[path.rstrip("/") + "/"] = respond

    def matches(self, scope: Scope) -> tuple[Match, Scope]:  # noqa: D102 - Starlette's
        if scope["type"] != "http":
            return Match.NONE, {}
        match = Match.FULL if scope["method"] == "POST" else Match.PARTIAL
        if (respond := self._responds.get(scope["path"])) is not None:
            return match, {"respond": respond, "template": scope["path"]}
        for template, pattern, respond in self._patterns:
            if (found := pattern.fullmatch(scope["path"])) is not None:
                return match, {"respond": respond, "template": template, "path_params": found.groupdict()}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - Starlette's
        if scope["method"] != "POST":
            raise HTTPException(405, headers={"allow": "POST"})
        response = await scope["respond"](Request(scope, receive, send))
        await response(scope, receive, send)


def add_routes(
    app: FastAPI,
    dialects: Mapping[str, Dialect],
    contenders: Mapping[str, Sequence[tuple[Dialect, Route]]],
    endpoint: Endpoint,
    catalog: Catalog,
    settings: ApiSettings,
) -> None:
    """Add every dialect's routes, each with and without a trailing slash (clients do not follow a redirected POST).

    Args:
        app: The gateway.
        dialects: For their views.
        contenders: Their routes by path (`contenders_by_path`).
        endpoint: Answers them.
        catalog: What views show.
        settings: The same.
    """
    for dialect in dialects.values():
        for view in dialect.views:
            _add_view(app, dialect, view, catalog, settings)
    routes = PostRoutes()
    for path, of_path in contenders.items():
        is_canonical = any(path == served_paths(dialect, route)[0] for dialect, route in of_path)
        _add_route(app, routes, path, of_path, endpoint, documented=is_canonical)
    _add_error_handlers(app)
    # In front of FastAPI's own, whose dependency solver has nothing to do here and costs 0.1 ms a request.
    app.router.routes.insert(0, routes)


def contenders_by_path(
    dialects: Mapping[str, Dialect], settings: ApiSettings
) -> dict[str, list[tuple[Dialect, Route]]]:
    """The routes that serve each path, without those that end in a slash."""
    by_path: dict[str, list[tuple[Dialect, Route]]] = defaultdict(list)
    for dialect in dialects.values():
        for route in dialect.routes:
            for path in served_paths(dialect, route):
                by_path[path].append((dialect, route))
    if settings.vertex_predict_route:
        # All that comes on a path that Vertex AI has chosen is in its envelope, whatever else is served there.
        by_path[settings.vertex_predict_route] = by_path["/vertex"]
    return dict(by_path)


def served_paths(dialect: Dialect, route: Route) -> list[str]:
    """The paths of a route, the canonical one first, without those that end in a slash."""
    prefixed = [f"/{dialect.prefix}{path}".rstrip("/") for path in route.paths] if dialect.prefix is not None else []
    return prefixed if route.prefix_only else [*route.paths, *prefixed]


def _add_route(
    app: FastAPI,
    routes: PostRoutes,
    path: str,
    contenders: Sequence[tuple[Dialect, Route]],
    endpoint: Endpoint,
    *,
    documented: bool,
) -> None:
    async def respond(request: Request) -> Response:
        model = request.path_params.get("model")
        if model is not None:
            return await endpoint(request, [(dialect, route.for_model(model)) for dialect, route in contenders])
        return await endpoint(request, contenders)

    routes.add(path, respond)
    if documented:
        _document(app, path, contenders, respond)


def _document(app: FastAPI, path: str, contenders: Sequence[tuple[Dialect, Route]], respond: Respond) -> None:
    """Describe a path in the OpenAPI document, by a route of FastAPI's that is never reached."""
    examples = {route.summary: {"value": dict(route.example)} for _, route in contenders}
    # Without the prefixes, which are all alike.
    served = [served_paths(dialect, route)[: len(route.paths)] for dialect, route in contenders]
    aliases = sorted({alias for paths in served for alias in paths} - {path})
    app.add_api_route(
        path,
        respond,
        methods=["POST"],
        summary=" or ".join(dict.fromkeys(route.summary for _, route in contenders)),
        description=f"Also at {', '.join(f'`{alias}`' for alias in aliases)}." if aliases else "",
        tags=[dialect.name for dialect, _ in contenders],
        operation_id=f"post{path.replace('/', '_')}",
        response_model=None,
        responses={**_ERRORS, 200: {"model": Union[tuple(route.response for _, route in contenders)]}},  # noqa: UP007
        openapi_extra={
            "parameters": _path_parameters(path),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body_schema(contenders), "examples": examples}},
            },
        },
    )


def _add_view(app: FastAPI, dialect: Dialect, view: View, catalog: Catalog, settings: ApiSettings) -> None:
    async def show(request: Request) -> Response:
        try:
            visible = catalog.within(caller_of(request).scope.models)
            visible.refuse_none()
            status, shown = 200, view.render(visible, settings, request.path_params)
        except MillraceError as error:
            status, shown = dialect.render_error(error)
        return Response(wire.dumps(shown), status_code=status, media_type="application/json")

    for path in (view.path, *view.aliases):
        is_canonical = path == view.path
        options: dict[str, Any] = {"summary": view.summary, "tags": [dialect.name]} if is_canonical else {}
        names = _PARAMETER.findall(path)
        if is_canonical and view.response is not None:
            options["responses"] = {200: {"model": view.response}, **({404: _ERRORS[404]} if names else {})}
        if is_canonical and names:
            options["openapi_extra"] = {"parameters": _path_parameters(path)}
        app.add_api_route(path, show, methods=["GET"], response_model=None, include_in_schema=is_canonical, **options)
        # Probes come as HEAD too.
        hidden = [path] if path == "/" else [path, f"{path}/"]
        for other in hidden:
            app.add_api_route(other, show, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in _PARAMETER.findall(path)]


def body_schema(contenders: Sequence[tuple[Dialect, Route]]) -> dict[str, Any]:
    """The JSON schema of the bodies that are taken where all these are served."""
    bodies = [_schema(route, contenders) for _, route in contenders]
    return bodies[0] if len(bodies) == 1 else {"anyOf": bodies}


def _schema(route: Route, contenders: Sequence[tuple[Dialect, Route]]) -> dict[str, Any]:
    """What the body of a route is where all these are served: in its words, and in those of no other."""
    schema = schemas.standalone(route.body)
    if len(contenders) == 1:
        return schema
    others = [other for _, other in contenders if other is not route]
    foreign = {other.key for other in others} - {route.key}
    rivals = [other for other in others if other.key == route.key and other.precedence > route.precedence]
    terms = [route.claim, *({"not": rival.claim} for rival in rivals if rival.claim)]
    own = schemas.with_field(schemas.without(schema, *sorted(foreign)), route.key)
    return {**own, "allOf": [dict(term) for term in terms if term]} if any(terms) else own


def _add_error_handlers(app: FastAPI) -> None:
    """Answer what no route does as the routes answer errors: in one sentence, and as JSON."""

    async def path_not_found(request: Request, _: Exception) -> Response:
        return _refusal(PathNotFound(f"nothing is served at {_shown_path(request)}; {_WHERE}"))

    async def method_not_allowed(request: Request, _: Exception) -> Response:
        allowed = ", ".join(sorted(_methods(app, request.scope)))
        sentence = f"{request.method} is not served at {_shown_path(request)}, which takes {allowed}; {_WHERE}"
        return _refusal(MethodNotAllowed(sentence), {"allow": allowed})

    app.add_exception_handler(404, path_not_found)
    app.add_exception_handler(405, method_not_allowed)


def _refusal(error: MillraceError, headers: Mapping[str, str] | None = None) -> Response:
    body = wire.dumps(wire.nested_error(error))
    return Response(body, status_code=error.status, headers=headers, media_type="application/json")


def _shown_path(request: Request) -> str:
    path = request.url.path
    return path if len(path) <= _MOST_SHOWN else f"{path[:_MOST_SHOWN]}…"


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """The methods for which the path of a request is served."""
    methods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    return {
        method
        for method in methods
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    }
