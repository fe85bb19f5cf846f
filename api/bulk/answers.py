"""Answers of the routes of bulk work: JSON, and errors in OpenAI's nested form with the headers that its clients obey."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from api import schemas, wire
from api.bodies import read_json_object
from api.departure import CLIENT_GONE
from api.error_responses import OF_BULK, OF_BULK_CHANGES, ErrorForm, error_responses
from api.openapi import also_at
from api.response_headers import LIMITS, referred
from shared.errors import MillraceError, Unavailable
from shared.logging import get_logger

log = get_logger("millrace.bulk")

Respond = Callable[[Request], Awaitable[Response]]

_ERRORS = wire.NestedErrors()
_PARAMETER = re.compile(r"\{(\w+)\}")


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON."""
    return Response(wire.dumps(value), status_code=status, headers=headers, media_type="application/json")


def error_answer(error: MillraceError) -> Response:
    """An error's answer."""
    return json_answer(wire.nested_error(error), status=error.status, headers=wire.error_headers(error))


async def optional_body(request: Request, *, limit_bytes: int, most_inputs: int) -> dict[str, Any]:
    """The JSON object of a request that may have none.

    Args:
        request: The request.
        limit_bytes: Size of the largest body.
        most_inputs: Entries of the longest list in it that is worth validating.

    Raises:
        InvalidRequest: It is no JSON object, or too large.
    """
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return {}
    headers = dict(request.scope["headers"])
    return await read_json_object(request.stream(), headers, limit_bytes=limit_bytes, most_inputs=most_inputs)


def answering(respond: Respond) -> Respond:
    """The same route, with its errors as answers."""

    async def answer(request: Request) -> Response:
        try:
            return await respond(request)
        except MillraceError as error:
            if error.status >= 500:
                log.warning("request_failed", path=request.url.path, code=error.code, reason=error.message)
            return error_answer(error)
        except RedisError as err:
            log.warning("request_failed", path=request.url.path, code=Unavailable.code, reason=str(err))
            return error_answer(Unavailable())
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception:
            log.exception("request_crashed", path=request.url.path)
            return error_answer(MillraceError(wire.CRASHED))

    return answer


def _responses(
    method: str,
    status: int,
    shown: Any,
    streamed: Mapping[str, Any] | None,
    headers: Sequence[str],
    empty: str,
    errors: ErrorForm,
) -> dict[int | str, dict[str, Any]]:
    told = {"headers": referred([*headers, *(LIMITS if method == "POST" else ())])}
    responses = error_responses([errors], OF_BULK_CHANGES if method == "POST" else OF_BULK)
    if shown is not None:
        responses[status] = {"model": shown, "description": "The answer.", **told}
    if streamed is not None:
        content = {media_type: {"schema": schema} for media_type, schema in streamed.items()}
        responses[200] = {"description": "In pieces, while they are made.", "content": content, **told}
    if empty:
        responses[204] = {"description": empty}
    return responses


def _content(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A body as OpenAPI has it, whose example stands beside the schema: tools look for it there."""
    return {"schema": {key: value for key, value in schema.items() if key != "example"}, "example": schema["example"]}


def add_route(
    app: FastAPI,
    method: str,
    paths: Sequence[str],
    respond: Respond,
    *,
    summary: str,
    tag: str,
    query: type[BaseModel] | None = None,
    body: Mapping[str, Any] | None = None,
    is_body_optional: bool = False,
    shown: Any = None,
    status: int = 200,
    streamed: Mapping[str, Any] | None = None,
    headers: Sequence[str] = (),
    empty: str = "",
    errors: ErrorForm = _ERRORS,
) -> None:
    """Serve a route, each of its paths with and without a trailing slash.

    Args:
        app: The gateway.
        method: Of HTTP.
        paths: With their `{parameters}`; the first is the canonical one, which is documented.
        respond: Answers; may raise a `MillraceError`.
        summary: For the documentation, as all that follows.
        tag: Heading of the route.
        query: Model of its query.
        body: Schemas of its body by media type, each with an `example`.
        is_body_optional: Whether a request without a body is the same as one with an empty object.
        shown: Model of the answer.
        status: Of the answer.
        streamed: Schemas, by media type, of an answer that comes in pieces, with status 200.
        headers: Names of the answer's own headers (`api.response_headers`).
        empty: What an answer with status 204 means, where there is one.
        errors: How errors are told.
    """
    options: dict[str, Any] = {"methods": [method], "response_model": None}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(paths[0])
    ]
    if query is not None:
        parameters += schemas.query_parameters(query)
    extra: dict[str, Any] = {"parameters": parameters}
    if body is not None:
        content = {kind: _content(schema) for kind, schema in body.items()}
        extra["requestBody"] = {"required": not is_body_optional, "content": content}
    answer = answering(respond)
    app.add_api_route(
        paths[0],
        answer,
        summary=summary,
        description=also_at(paths[1:]),
        tags=[tag],
        responses=_responses(method, status, shown, streamed, headers, empty, errors),
        status_code=status,
        openapi_extra=extra,
        # Of JSON, unless all that is answered comes in pieces of another type.
        response_class=Response if shown is None else JSONResponse,
        **options,
    )
    for path in [*(f"{path}/" for path in paths), *paths[1:]]:
        app.add_api_route(path, answer, include_in_schema=False, **options)
    if method == "GET" and streamed is None:
        for path in [*paths, *(f"{path}/" for path in paths)]:
            app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False, response_model=None)
