"""The gate in front of all routes: no request is read before its key is known to be valid.

What needs no key is listed here, and everything else needs one; what belongs to no group of routes is for operators. So a
route that is added later is closed until somebody opens it.
"""

import time
from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import wire
from api.access.caller import NO_LIMITS, Caller
from api.access.keys import presented
from api.access.limits import Charge, TenantLimits
from api.access.register import KeyRegister
from api.access.revocation import while_allowed
from api.bulk.paths import is_bulk
from api.dialect_paths import DialectPaths
from api.request_timeout import presumed_timeout_s
from api.usage_route import USAGE_PATH
from shared.access import RouteGroup
from shared.errors import DeadlineExceeded, MillraceError, RateLimited, Unauthenticated
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.queues import Lane

log = get_logger("millrace.access")

#: Documentation, which tells what the service can do and nothing of what it does.
_DOCUMENTED = frozenset({"/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"})
_DOCUMENTATION_FILES = "/docs/static/"
#: Methods that cost a tenant nothing: what only looks, and what makes room.
_FREE = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_CHALLENGE = {"www-authenticate": 'Bearer realm="millrace"'}


class Gate:
    """Lets requests through whose key allows their route."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        register: KeyRegister,
        limits: TenantLimits,
        public: frozenset[str],
        dialects: DialectPaths,
        routes: Sequence[BaseRoute],
        metrics: Metrics,
        usual_timeout_s: float,
    ) -> None:
        """Build it.

        Args:
            app: What is behind it.
            register: Knows the keys.
            limits: Of the tenants.
            public: Paths of GET and HEAD that need no key, without a slash at their end.
            dialects: In which a path's errors are told; those of other paths are told in OpenAI's words.
            routes: All that is served; may grow.
            metrics: Counts refusals.
            usual_timeout_s: How long a request has that does not say it.
        """
        self._app = app
        self._register = register
        self._limits = limits
        self._public = public | _DOCUMENTED
        self._dialects = dialects
        self._routes = routes
        self._metrics = metrics
        self._usual_timeout_s = usual_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] == "lifespan" or self._is_public(scope):
            await self._app(scope, receive, send)
            return
        try:
            caller = self._register.authenticate(presented(scope["headers"]))
            scope.setdefault("state", {})["caller"] = caller
            self._check(scope, caller)
        except MillraceError as error:
            await self._refuse(scope, receive, send, error)
            return
        if self._register.may_change and is_bulk(_path(scope)):
            # These may go on for hours; what is answered within its deadline is answered.
            async with while_allowed(receive, self._refusal(scope)) as receive_if_allowed:
                await self._let_in(scope, receive_if_allowed, send, caller)
        else:
            await self._let_in(scope, receive, send, caller)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        if caller.limits is NO_LIMITS or scope["method"] in _FREE:
            await self._app(scope, receive, send)
        else:
            await self._charge(scope, receive, send, Charge(caller, self._limits))

    async def _refusal(self, scope: Scope) -> MillraceError:
        """Why a request that was let in would not be any more, as soon as that is so."""
        while True:
            changed = self._register.changed
            try:
                self._check(scope, self._register.authenticate(presented(scope["headers"])))
            except MillraceError as error:
                return error
            await changed.wait()

    async def _charge(self, scope: Scope, receive: Receive, send: Send, charge: Charge) -> None:
        """Let a request of a tenant with limits in, and say with its answer what is left of them."""

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *charge.headers()]
            await send(message)

        try:
            charge.deadline = time.monotonic() + self._timeout_s(scope)
            await self._limits.admit(charge)
            scope["state"]["charge"] = charge
            await self._app(scope, receive, send_with_limits)
        except (RateLimited, DeadlineExceeded) as error:
            await self._refuse(scope, receive, send_with_limits, error)
        finally:
            self._limits.release(charge)

    def _timeout_s(self, scope: Scope) -> float:
        given = dict(scope["headers"]).get(b"x-request-timeout")  # of several the last one, as for whoever answers
        return presumed_timeout_s(given, self._usual_timeout_s)

    def _is_public(self, scope: Scope) -> bool:
        if scope.get("method") not in ("GET", "HEAD"):
            return False
        return _path(scope) in self._public or scope["path"].startswith(_DOCUMENTATION_FILES)

    def _check(self, scope: Scope, caller: Caller) -> None:
        """See that the caller may use the route; what a route for models is asked for is known when it is read.

        Raises:
            Forbidden: The caller may not.
        """
        path = _path(scope)
        if path == USAGE_PATH or self._dialects.find(path) is not None:
            return
        if is_bulk(path):
            caller.require(RouteGroup.BULK)
            caller.require_lane(Lane.BULK)
        elif any(route.matches(scope)[0] is not Match.NONE for route in self._routes):
            caller.require(RouteGroup.ADMIN)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: MillraceError) -> None:
        dialect = self._dialects.find(_path(scope))
        status, body = (error.status, wire.nested_error(error)) if dialect is None else dialect.render_error(error)
        headers = wire.error_headers(error)
        if isinstance(error, Unauthenticated):
            headers |= _CHALLENGE
        self._metrics.counter("millrace_refused_requests_total", code=error.code).inc()
        response = Response(wire.dumps(body), status_code=status, headers=headers, media_type="application/json")
        await response(scope, receive, send)


def _path(scope: Scope) -> str:
    """A request's path as those are written that it is looked up among: without a slash at its end."""
    return scope["path"].rstrip("/") or "/"
