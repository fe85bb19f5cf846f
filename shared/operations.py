"""The port of a process that serves no requests: `/metrics` for Prometheus, `/livez` for whoever may restart it.

`/targets` tells Prometheus' HTTP discovery of the ports of all such processes of one machine.
"""

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

LIVENESS_PATH = "/livez"
TARGETS_PATH = "/targets"
#: Header of its answer that says whose it is: another process may have the port.
PROCESS_HEADER = "x-process-id"
#: How long a client may take to send its request, in seconds.
_CLIENT_TIMEOUT_S = 10


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, *_: Any) -> None:
        """Nothing: a probe a second is no news."""


def serve_operations(
    host: str,
    port: int,
    registry: CollectorRegistry,
    trouble: Callable[[], str] = lambda: "",
    ports: Sequence[int] = (),
) -> None:
    """Serve in threads, for as long as the process lives.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        registry: What `/metrics` shows.
        trouble: Why this process should be replaced; empty while it is well. That it answers at all says the rest.
        ports: What `/targets` tells: those of this process and of others beside it; its own when empty.
    """
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"].rstrip("/")
        if path == TARGETS_PATH:
            start_response("200 OK", [("content-type", "application/json")])
            return [_targets(environ.get("HTTP_HOST", host), ports or [port])]
        if path != LIVENESS_PATH:
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        reason = trouble()
        start_response(
            "503 Service Unavailable" if reason else "200 OK",
            [("content-type", "text/plain; charset=utf-8"), (PROCESS_HEADER, str(os.getpid()))],
        )
        return [f"{reason or 'ok'}\n".encode()]

    server = make_server(
        host, port, answer, server_class=_ServerOfIPv6 if ":" in host else _Server, handler_class=_Handler
    )
    threading.Thread(target=server.serve_forever, name="operations", daemon=True).start()


def _targets(asked: str, ports: Sequence[int]) -> bytes:
    """What Prometheus is to scrape, under the name that it has asked at, which reaches the other ports too."""
    name = re.sub(r":\d+$", "", asked)
    return json.dumps([{"targets": [f"{name}:{port}" for port in ports]}]).encode()
