"""Pure ASGI middleware: the request id and the access log."""

import re
import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.console.page import CONSOLE_PATHS
from api.health import QUIET_PATHS
from api.status import STATUS_PATH
from shared.logging import get_logger

log = get_logger("millrace.access")

_SAFE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
#: What the console asks for is not worth a line each either.
_QUIET_PATHS = QUIET_PATHS | CONSOLE_PATHS | {STATUS_PATH}


class RequestId:
    """Gives each request an id (the caller's `x-request-id` or a fresh one), echoes it, binds it to all logs."""

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                if self._access_log and scope["path"] not in _QUIET_PATHS:
                    caller = scope["state"].get("caller")
                    log.info(
                        "request_answered",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        ms=round((time.perf_counter() - started) * 1000, 1),
                        client=client[0] if (client := scope.get("client")) else None,
                        **({} if caller is None else {"tenant": caller.tenant, "key": caller.key}),
                    )
