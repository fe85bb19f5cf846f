"""A receiver of callbacks: a real web server that remembers what it got and answers as it is told."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any


@dataclass
class Received:
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def event_id(self) -> str:
        """Its `webhook-id`."""
        return self.headers["webhook-id"]


class Receiver(socketserver.ThreadingTCPServer):
    """Answers 200 unless its `answers` say otherwise."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.port: int = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.received: list[Received] = []
        #: What the next requests are answered, in order; when it is empty, `default` is.
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.default: tuple[int, dict[str, str]] = (200, {})
        #: While it is clear nothing is answered.
        self.answering = threading.Event()
        self.answering.set()
        self._lock = threading.Lock()

    def next_answer(self, request: Received) -> tuple[int, dict[str, str]]:
        """Remember a request and tell its answer."""
        with self._lock:
            self.received.append(request)
            return self.answers.pop(0) if self.answers else self.default

    def of(self, text: str) -> list[Received]:
        """The requests whose event ids contain a text."""
        return [request for request in self.received if text in request.event_id]

    def ids(self) -> list[str]:
        """The event ids in the order in which they came."""
        return [request.event_id for request in self.received]

    def handle_error(self, *_: Any) -> None:
        """That a sender hangs up is what some tests are about."""


class _Visit(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, extra = self.server.next_answer(Received(self.path, headers, body))
        self.server.answering.wait(60)
        self.send_response(status)
        for name, value in {"content-length": "0", **extra}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests' output is pytest's."""


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield receiver
    receiver.answering.set()
    receiver.shutdown()
    receiver.server_close()
    thread.join()
