"""`python -m bench.load`: the HTTP load generator, a measuring process.

It shares the cores with what it measures, so it is as cheap as Python allows: keep-alive connections on raw protocols,
requests encoded beforehand, answers recognised by their content length; each status is checked, one answer in 32 whole.
"""

import asyncio
import base64
import gc
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import orjson
import uvloop

from bench.commands import answer_commands
from bench.measurement import Measurement, of_latencies, percentile
from bench.texts import texts_of

EMBEDDINGS_PATH = "/v1/embeddings"
ECHO_PATH = "/echo"

_CHECK_EVERY = 32
#: Nothing may expire, not even 256 requests of 32 texts on a slow machine.
_REQUEST_TIMEOUT_S = 120
#: Time after the last request was sent.
_DRAIN_TIMEOUT_S = 120.0
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ARRIVALS_SEED = 7
#: Connections opened before the first arrival of an open-loop load; more are opened when all are busy.
_OPEN_LOOP_CONNECTIONS = 64


class WrongAnswer(Exception):
    """The service is not doing its work, so its speed means nothing."""


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request under way."""

    def __init__(
        self, on_answer: Callable[["_Connection", bytes], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._on_answer, self._on_error = on_answer, on_error
        self._received: list[bytes] = []
        self._missing = -1  # bytes; negative until the head is complete
        self._body_at = 0
        self._closing = False
        #: When the request under way was sent, or should have been.
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if not self._closing:
            self._on_error(WrongAnswer(f"the connection was closed ({exc})"))

    def send(self, request: bytes, since: float) -> None:
        """Send a request whose latency counts from `since`."""
        self.since = since
        self._transport.write(request)

    def close(self) -> None:
        """Close it."""
        self._closing = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._received.append(data)
        if self._missing >= 0:
            self._missing -= len(data)
        elif not self._read_head():
            return
        if self._missing <= 0:
            body = b"".join(self._received)[self._body_at :]
            self._received, self._missing = [], -1
            self._on_answer(self, body)

    def _read_head(self) -> bool:
        head = b"".join(self._received)
        self._received = [head]
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = _CONTENT_LENGTH.search(head, 0, end)
        if head[9:12] != b"200" or length is None:
            self._on_error(WrongAnswer(f"the service answered {head[:300].decode(errors='replace')}"))
            return False
        self._body_at = end + 4
        self._missing = self._body_at + int(length[1]) - len(head)
        return True


class _Load:
    """Requests, the connections that carry them, and what came back."""

    def __init__(self, port: int, path: str, texts_per_request: int, offset: int = 0, *, texts: str = "short") -> None:
        self._port = port
        requests = _requests(path, texts_per_request, texts)
        offset %= len(requests)
        self._requests = cycle(requests[offset:] + requests[:offset])
        self._check = _check_echo if path == ECHO_PATH else _check_embeddings
        self._texts_per_request = texts_per_request
        self._connections: list[_Connection] = []
        self.latencies_s: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, on_answer: Callable[[_Connection], None]) -> _Connection:
        """Open one more connection."""

        def received(connection: _Connection, body: bytes) -> None:
            if len(self.latencies_s) % _CHECK_EVERY == 0:
                try:
                    self._check(body, self._texts_per_request)
                except WrongAnswer as err:
                    self.fail(err)
                    return
            self.latencies_s.append(time.perf_counter() - connection.since)
            on_answer(connection)

        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(received, self.fail), "127.0.0.1", self._port)
        self._connections.append(connection)
        return connection

    def send(self, connection: _Connection, since: float) -> None:
        """Send the next request."""
        connection.send(next(self._requests), since)

    def fail(self, error: Exception) -> None:
        """End the measurement."""
        if not self.done.done():
            self.done.set_exception(error)

    async def finish(self, timeout_s: float) -> None:
        """Wait for the last answer."""
        try:
            await asyncio.wait_for(self.done, timeout_s)
        except TimeoutError:
            got = len(self.latencies_s)
            raise WrongAnswer(f"not all answers came within {timeout_s:.0f} s; {got} did") from None

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()


async def _closed_loop(
    port: int, path: str, texts_per_request: int, concurrency: int, seconds: float, texts: str = "short"
) -> Measurement:
    """Each of `concurrency` connections sends its next request when it has its answer, for `seconds`; all are awaited.

    The time runs until the last answer, and the service is busy until then: throughput is fair. Latency is that of a
    client who waits, so an overloaded service lowers the offered load and looks better than it is.
    """
    load = _Load(port, path, texts_per_request, texts=texts)
    busy = concurrency
    stop_at = finished = 0.0

    def on_answer(connection: _Connection) -> None:
        nonlocal busy, finished
        now = time.perf_counter()
        if now < stop_at:
            load.send(connection, now)
            return
        busy -= 1
        if busy == 0 and not load.done.done():
            finished = now
            load.done.set_result(None)

    connections = [await load.connect(on_answer) for _ in range(concurrency)]
    started, cpu = time.perf_counter(), time.process_time()
    stop_at = started + seconds
    for connection in connections:
        load.send(connection, time.perf_counter())
    try:
        await load.finish(seconds + _DRAIN_TIMEOUT_S)
    finally:
        load.close()
    return of_latencies(
        load.latencies_s,
        texts=len(load.latencies_s) * texts_per_request,
        seconds=finished - started,
        client_cpu_s=time.process_time() - cpu,
    )


async def _sequential(port: int, path: str, count: int, offset: int) -> list[float]:
    """Latencies in seconds of `count` requests of one text, one after the other, from text `offset` on."""
    load = _Load(port, path, 1, offset)

    def on_answer(connection: _Connection) -> None:
        if len(load.latencies_s) < count:
            load.send(connection, time.perf_counter())
        elif not load.done.done():
            load.done.set_result(None)

    load.send(await load.connect(on_answer), time.perf_counter())
    try:
        await load.finish(_DRAIN_TIMEOUT_S)
    finally:
        load.close()
    return load.latencies_s


async def _open_loop(port: int, path: str, rate_per_s: float, seconds: float) -> Measurement:
    """Requests of one text arrive at random (Poisson) whether or not earlier ones are answered.

    Latency counts from the time at which a request was due, so a stall is felt by all who arrive during it.
    """
    dice = random.Random(_ARRIVALS_SEED)
    arrivals: list[float] = []
    at = dice.expovariate(rate_per_s)
    while at < seconds:
        arrivals.append(at)
        at += dice.expovariate(rate_per_s)
    load = _Load(port, path, 1)
    idle: list[_Connection] = []
    finished = 0.0

    def on_answer(connection: _Connection) -> None:
        nonlocal finished
        idle.append(connection)
        if len(load.latencies_s) == len(arrivals) and not load.done.done():
            finished = time.perf_counter()
            load.done.set_result(None)

    idle.extend([await load.connect(on_answer) for _ in range(_OPEN_LOOP_CONNECTIONS)])
    lateness_s: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    try:
        for at in arrivals:
            due = started + at
            while (ahead := due - time.perf_counter()) > 0:  # noqa: ASYNC110 - it waits for a time
                await asyncio.sleep(ahead)
            connection = idle.pop() if idle else await load.connect(on_answer)
            lateness_s.append(time.perf_counter() - due)
            load.send(connection, due)
        await load.finish(_DRAIN_TIMEOUT_S)
    finally:
        load.close()
    measured = of_latencies(
        load.latencies_s,
        texts=len(arrivals),
        seconds=finished - started,
        client_cpu_s=time.process_time() - cpu,
    )
    return replace(
        measured,
        offered_per_s=rate_per_s,
        lateness_p50_ms=percentile(lateness_s, 0.5) * 1000,
        lateness_p99_ms=percentile(lateness_s, 0.99) * 1000,
    )


def _requests(path: str, texts_per_request: int, kind: str) -> list[bytes]:
    texts = texts_of(kind)
    groups = [texts[start : start + texts_per_request] for start in range(0, len(texts), texts_per_request)]
    return [_request(path, group) for group in groups]


def _request(path: str, texts: Sequence[str]) -> bytes:
    body = orjson.dumps({"input": texts[0] if len(texts) == 1 else texts, "encoding_format": "base64"})
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-request-timeout: {_REQUEST_TIMEOUT_S}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _check_embeddings(body: bytes, texts: int) -> None:
    rows = orjson.loads(body)["data"]
    if [row["index"] for row in rows] != list(range(texts)):
        raise WrongAnswer(f"{len(rows)} vectors came back for {texts} texts")
    for row in rows:
        vector = np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4")
        if not np.isclose(np.linalg.norm(vector), 1.0, atol=1e-3):
            raise WrongAnswer("a vector is not of unit length")


def _check_echo(body: bytes, texts: int) -> None:
    sent = orjson.loads(body)["input"]
    if texts != (1 if isinstance(sent, str) else len(sent)):
        raise WrongAnswer("the echo is not what was sent")


def _prepare() -> dict[str, Callable[..., Any]]:
    gc.freeze()
    return {
        "closed_loop": lambda **arguments: uvloop.run(_closed_loop(**arguments)).to_json(),
        "sequential": lambda **arguments: uvloop.run(_sequential(**arguments)),
        "open_loop": lambda **arguments: uvloop.run(_open_loop(**arguments)).to_json(),
    }


if __name__ == "__main__":
    answer_commands(_prepare)
