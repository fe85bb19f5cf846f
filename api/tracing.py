"""The gateway's spans: one for each request, in the caller's trace if it has one. Imported only where traces are on."""

from collections.abc import Mapping

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.health import QUIET_PATHS
from shared.tracing import Tracing

_PROPAGATOR = TraceContextTextMapPropagator()
_HEADERS = frozenset({b"traceparent", b"tracestate"})


class Traced:
    """Pure ASGI middleware: a span around each request, to be found in its logs by `trace_id`."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracer = tracing.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        attributes = {"http.request.method": method, "url.path": scope["path"]}
        parent = _PROPAGATOR.extract(_carried(scope), contexts.Context())
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        token = contexts.attach(trace.set_span_in_context(span))
        try:
            with structlog.contextvars.bound_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}"):
                await self._app(scope, receive, send_and_note)
        finally:
            contexts.detach(token)
            template = scope.get("template") or getattr(scope.get("route"), "path", None)
            if template is not None:
                span.update_name(f"{method} {template}")
                span.set_attribute("http.route", template)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("millrace.request_id", scope.get("state", {}).get("request_id", ""))
            if status >= 500:
                span.set_status(StatusCode.ERROR)
            span.end()


def _carried(scope: Scope) -> Mapping[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}


def current_traceparent() -> str:
    """What the work of the current request is to carry along; empty where its trace is not kept."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
