"""An OTLP collector over HTTP that remembers the spans that it was sent."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """One span."""

    service: str
    instance: str
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any] = field(hash=False)
    #: Trace and span ids.
    links: frozenset[tuple[str, str]]
    is_error: bool


class Collector(socketserver.ThreadingTCPServer):
    """Takes everything."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.spans: list[ReceivedSpan] = []

    def of(self, trace_id: str) -> dict[str, ReceivedSpan]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}


class _Export(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            self.server.spans += list(_spans(ExportTraceServiceRequest.FromString(body)))
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output is pytest's."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = _plain(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield ReceivedSpan(
                    service=resource["service.name"],
                    instance=resource["service.instance.id"],
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    name=span.name,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_plain(span.attributes),
                    links=frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _plain(attributes: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield collector
    collector.shutdown()
    collector.server_close()
    thread.join()
