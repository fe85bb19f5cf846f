"""The OpenAPI document: what FastAPI writes of the routes, the keys that they ask for, and what they have in common."""

import ctypes
import functools
import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import glossary, response_headers
from api.aside import aside
from api.dialect import Dialect
from api.error_bodies import FlatError, NestedError, TeiError, UploadError

PATH = "/openapi.json"
_PAGES = (PATH, "/docs", "/redoc")
#: What is true of every route.
ABOUT = """
Every path is served with and without a slash at its end. **Also at** names further paths at which the same bodies get the
same answers; where a provider's prefix (`/cohere`, `/infinity`, `/jina`, `/tei`, `/voyage`, `/vllm`) changes what is
understood or answered, the path has an entry of its own. This page is at `/docs`, another view of it at `/redoc`, the
document at `/openapi.json`; browsers get a console at `/`.

**Headers of requests.** `x-request-timeout`: seconds that the answer may take, more than 0. `x-millrace-lane`: `interactive`
(default), or `bulk` for work that must never delay interactive requests. `x-request-id`: your id for the request, up to 128
visible characters; it is echoed, and a fresh one is made where it is absent. `Idempotency-Key`, with bulk work: a request
that is sent twice with the same one counts once. Where keys are asked for, one goes into `authorization: Bearer`,
`x-api-key` or `api-key`.

**Errors** are one sentence, in the form that the clients of the path read; `code` is stable. Beside what each route lists,
there are for all: 404 `path_not_found` and 405 `method_not_allowed` with `allow`, and, as `NestedError`, for what is no
proper HTTP 400 `malformed_http`, 408 `head_too_slow` and 431 `head_too_large`.
"""

_SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's clients send it."},
}
#: What bulk work and the operators' routes are about; a dialect's module says it of that dialect.
_TAGS = {
    "ingest": "Documents in, by the thousand or the million; progress and vectors out.",
    "files": "Files of batches, in OpenAI's words.",
    "batches": "OpenAI's batches: many requests to one path, answered in a file.",
    "webhooks": "Who is told of what becomes of jobs and batches.",
    "operations": "Probes, metrics, usage, and the deployment at a glance.",
}
_ERROR_BODIES = (FlatError, NestedError, TeiError, UploadError)
#: Statuses that are refused before a route is reached, which needs a key.
_OF_KEYS = frozenset({"401", "403"})
#: What pydantic calls a model whose name another has too.
_QUALIFIED = re.compile(rb"api__(?:\w+?__)?(\w+?)__([A-Z]\w*)")
#: Of a path's parameter; the document has none.
_CONVERTER = re.compile(r":\w+(?=\})")


def also_at(aliases: Collection[str]) -> str:
    """What the document says of a path's other names; they are no operations of their own, since nothing differs there."""
    shown = [f"`{_CONVERTER.sub('', alias)}`" for alias in sorted(aliases)]
    return f"Also at {', '.join(shown)}." if shown else ""


def operation_id(route: APIRoute) -> str:
    """A name for an operation, from which those who generate clients make a method's."""
    path = "_".join(re.findall(r"\w+", _CONVERTER.sub("", route.path)))
    return f"{min(route.methods or ('GET',)).lower()}_{path or 'root'}"


def document(app: FastAPI, public: Collection[str] | None, dialects: Iterable[Dialect]) -> dict[str, Any]:
    """The document.

    Args:
        app: The gateway.
        public: Paths whose GET needs no key; None where nothing needs one.
        dialects: Their modules say what they are.
    """
    described = orjson.loads(_QUALIFIED.sub(_short_name, orjson.dumps(app.openapi())))
    app.openapi_schema = None  # which FastAPI would keep: some megabytes for nobody
    responses = _Responses()
    errors = _errors(app)
    paths: dict[str, dict[str, Any]] = {}
    for path, methods in described["paths"].items():
        paths[path] = {}
        for method, operation in methods.items():
            is_public = public is not None and method == "get" and path in public
            answers = {
                status: responses.shared(status, errors[path, method].get(status, answer))
                for status, answer in operation["responses"].items()
                if not (is_public and status in _OF_KEYS)
            }
            paths[path][method] = {**operation, "responses": answers, **({"security": []} if is_public else {})}
            if "parameters" in operation:
                paths[path][method]["parameters"] = [glossary.parameter(one) for one in operation["parameters"]]
    schemas = models_json_schema(
        [(body, "serialization") for body in _ERROR_BODIES], ref_template="#/components/schemas/{model}"
    )[1]["$defs"]
    said = {dialect.name: _about(dialect) for dialect in dialects} | _TAGS
    found: dict[str, Any] = {
        **described,
        "tags": [{"name": name, "description": description} for name, description in said.items()],
        "paths": paths,
        "components": {
            "schemas": {
                name: glossary.described(schema)
                for name, schema in {**described["components"]["schemas"], **schemas}.items()
            },
            "responses": responses.by_name,
            "headers": response_headers.components(),
        },
    }
    if public is not None:
        found["components"]["securitySchemes"] = _SCHEMES
        found["security"] = [{name: []} for name in _SCHEMES]
    return found


class _Responses:
    """Answers that many operations have: they are written once."""

    def __init__(self) -> None:
        self.by_name: dict[str, dict[str, Any]] = {}
        self._names: dict[bytes, str] = {}

    def shared(self, status: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        """An answer with the headers that all have; where it is an error's, a reference to it."""
        own = answer.get("headers", {})
        told = {**answer, "headers": {**own, **response_headers.referred([response_headers.REQUEST_ID])}}
        bodies = _error_bodies(answer)
        if not bodies:
            return told
        key = orjson.dumps([status, told], option=orjson.OPT_SORT_KEYS)
        if key not in self._names:
            name = f"{'Or'.join(body.removesuffix('Error') for body in bodies)}Error{status}"
            taken = sum(other == name or other.startswith(f"{name}-") for other in self.by_name)
            self._names[key] = f"{name}-{taken + 1}" if taken else name
            self.by_name[self._names[key]] = told
        return {"$ref": f"#/components/responses/{self._names[key]}"}


def _error_bodies(answer: Mapping[str, Any]) -> list[str]:
    """Names of the models of an error's answer; none if it is none."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    names = [one.get("$ref", "").rsplit("/", 1)[-1] for one in schema.get("anyOf", [schema])]
    known = {body.__name__ for body in _ERROR_BODIES}
    return names if known.issuperset(names) else []


def _errors(app: FastAPI) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """The answers to errors by path, method and status, as routes have them: FastAPI leaves out what is null in examples."""
    return {
        (route.path_format, method.lower()): {
            str(status): answer for status, answer in route.responses.items() if _error_bodies(answer)
        }
        for route in app.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }


def _short_name(qualified: re.Match[bytes]) -> bytes:
    """A name by which a model is known apart: that of its module, and its own."""
    module, name = qualified.groups()
    prefix = module.title().replace(b"_", b"")
    return name if name.startswith(prefix) else prefix + name


def _about(dialect: Dialect) -> str:
    """The first paragraph of what its module says."""
    return (inspect.getdoc(inspect.getmodule(type(dialect))) or "").split("\n\n")[0]


def add_schema_route(app: FastAPI, public: Collection[str] | None, dialects: Iterable[Dialect]) -> None:
    """Serve the document in FastAPI's place, which writes it in the event loop: nearly a second, the first time.

    Args:
        app: The gateway.
        public: As for `document`.
        dialects: The same.
    """

    @functools.cache  # what is served does not change any more
    def written() -> bytes:
        body = orjson.dumps(document(app, public, dialects))
        _give_back_memory()
        return body

    async def schema(_: Request) -> Response:
        return Response(await aside(written), media_type="application/json")

    # Before FastAPI's own, behind the look-up of the routes that are asked all the time.
    app.router.routes.insert(1, Route(PATH, schema))


def _give_back_memory() -> None:
    """Give what is free back to the system, where the C library can: 8 of the 24 MB that writing the document takes."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def add_documentation_aliases(app: FastAPI) -> None:
    """Serve the pages of the documentation with a trailing slash and for HEAD too, as all else that is read is."""
    for route in [route for route in app.router.routes if isinstance(route, Route) and route.path in _PAGES]:
        app.router.routes += [Route(path, route.endpoint) for path in (route.path, f"{route.path}/")]
