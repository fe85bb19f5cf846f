"""Dialects to FastAPI routes; several dialects may serve one path, and the body decides."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Union

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from api import schemas, wire
from api.access.caller import caller_of
from api.catalog import Catalog
from api.dialect import Dialect, Route, View, prefixed, prefixes_of, view_paths
from api.dialect_paths import DialectPaths
from api.endpoint import Endpoint
from api.error_responses import OF_ALL, OF_MODELS, error_responses
from api.openapi import also_at
from api.response_headers import LIMITS, MEASURES, referred
from api.settings import ApiSettings
from shared.errors import MethodNotAllowed, MillraceError, PathNotFound

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

    @property
    def paths(self) -> list[str]:
        """All that are served."""
        return [*self._responds, *(template for template, _, _ in self._patterns)]

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
    prefixes = prefixes_of(dialects.values())
    for dialect in dialects.values():
        for view in dialect.views:
            _add_view(app, dialect, view, view_paths(dialect, view, prefixes), catalog, settings)
    routes = PostRoutes()
    for paths in served_alike(contenders):
        of_paths = contenders[paths[0]]
        respond = _responder(of_paths, endpoint)
        for path in paths:
            routes.add(path, respond)
        canonical = [path for path in paths if any(path == served_paths(*entry)[0] for entry in of_paths)]
        for path in canonical or paths[:1]:
            _document(app, path, of_paths, respond, aliases={*paths} - {path})
    _add_error_handlers(app, DialectPaths(dialects.values(), contenders))
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
    under_prefix = prefixed([dialect.prefix] if dialect.prefix is not None else [], route.paths)
    return under_prefix if route.prefix_only else [*route.paths, *under_prefix]


def served_alike(contenders: Mapping[str, Sequence[tuple[Dialect, Route]]]) -> list[list[str]]:
    """The paths, by what is served there: those of one list understand the same bodies and answer them in the same way."""
    groups: dict[tuple[tuple[str, int], ...], list[str]] = defaultdict(list)
    for path, of_path in contenders.items():
        groups[tuple((dialect.name, id(route)) for dialect, route in of_path)].append(path)
    return list(groups.values())


def _responder(contenders: Sequence[tuple[Dialect, Route]], endpoint: Endpoint) -> Respond:
    async def respond(request: Request) -> Response:
        model = request.path_params.get("model")
        if model is not None:
            return await endpoint(request, [(dialect, route.for_model(model)) for dialect, route in contenders])
        return await endpoint(request, contenders)

    return respond


def _told_apart(contenders: Sequence[tuple[Dialect, Route]]) -> str:
    """What decides whose words a body is in, where there is a choice."""
    keys = dict.fromkeys(f"`{route.key}`" for _, route in contenders)
    return f"Which of {', '.join(keys)} a body has tells whose request it is." if len(keys) > 1 else ""


def _document(
    app: FastAPI,
    path: str,
    contenders: Sequence[tuple[Dialect, Route]],
    respond: Respond,
    *,
    aliases: Collection[str],
) -> None:
    """Describe a path in the OpenAPI document, by a route of FastAPI's that is never reached."""
    examples = {route.summary: {"value": dict(route.example)} for _, route in contenders}
    answered = {
        "model": Union[tuple(route.response for _, route in contenders)],  # noqa: UP007
        "description": "The answer.",
        "headers": referred([*MEASURES, *LIMITS]),
    }
    app.add_api_route(
        path,
        respond,
        methods=["POST"],
        summary=" or ".join(dict.fromkeys(route.summary for _, route in contenders)),
        description=" ".join(filter(None, [_told_apart(contenders), also_at(aliases)])),
        tags=list(dict.fromkeys(dialect.name for dialect, _ in contenders)),
        response_model=None,
        responses={200: answered, **error_responses((dialect for dialect, _ in contenders), OF_MODELS)},
        openapi_extra={
            "parameters": _path_parameters(path),
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body_schema(contenders), "examples": examples}},
            },
        },
    )


def _add_view(
    app: FastAPI, dialect: Dialect, view: View, paths: Sequence[str], catalog: Catalog, settings: ApiSettings
) -> None:
    async def show(request: Request) -> Response:
        try:
            visible = catalog.within(caller_of(request).scope.models)
            visible.refuse_none()
            status, shown, headers = 200, view.render(visible, settings, request.path_params), {}
        except MillraceError as error:
            (status, shown), headers = dialect.render_error(error), wire.error_headers(error)
        return Response(wire.dumps(shown), status_code=status, headers=headers, media_type="application/json")

    for path in paths:
        is_canonical = path == view.path
        options: dict[str, Any] = {}
        if is_canonical:
            options = {
                "summary": view.summary,
                "description": also_at({*paths} - {view.path}),
                "tags": [dialect.name],
                "responses": {
                    200: {"model": view.response, "description": "The answer."},
                    **error_responses([dialect], [*OF_ALL, *view.errors]),
                },
                "openapi_extra": {"parameters": _path_parameters(path)},
            }
        app.add_api_route(path, show, methods=["GET"], response_model=None, include_in_schema=is_canonical, **options)
        # Probes come as HEAD too.
        hidden = [path] if path == "/" else [path, f"{path}/"]
        for other in hidden:
            app.add_api_route(other, show, methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def _path_parameters(path: str) -> list[dict[str, Any]]:
    said = {"description": "Name of the model, which may have slashes.", "schema": {"type": "string", "minLength": 1}}
    return [{"name": name, "in": "path", "required": True, **said} for name in _PARAMETER.findall(path)]


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


def close_patterns(app: FastAPI) -> None:
    """Have each path end where it ends: Starlette's patterns end in `$`, which is also true before a newline at the end."""
    for route in app.router.routes:
        if isinstance(route, StarletteRoute):
            route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z")


def _add_error_handlers(app: FastAPI, dialects: DialectPaths) -> None:
    """Answer what no route does as the routes answer errors: in one sentence, in the form of the path's dialect."""

    def refusal(request: Request, error: MillraceError, headers: Mapping[str, str] | None = None) -> Response:
        dialect = dialects.nearest(request.url.path.rstrip("/") or "/")
        status, body = (error.status, wire.nested_error(error)) if dialect is None else dialect.render_error(error)
        return Response(wire.dumps(body), status_code=status, headers=headers, media_type="application/json")

    async def path_not_found(request: Request, _: Exception) -> Response:
        return refusal(request, PathNotFound(f"nothing is served at {_shown_path(request)}; {_WHERE}"))

    async def method_not_allowed(request: Request, _: Exception) -> Response:
        allowed = ", ".join(sorted(_methods(app, request.scope)))
        sentence = f"{request.method} is not served at {_shown_path(request)}, which takes {allowed}; {_WHERE}"
        return refusal(request, MethodNotAllowed(sentence), {"allow": allowed})

    app.add_exception_handler(404, path_not_found)
    app.add_exception_handler(405, method_not_allowed)


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
