"""A gateway's server that is told to end under load: whoever has reached it is answered."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from fastapi import FastAPI

from api.server import Server, use_all_descriptors
from api.settings import ApiSettings
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

CLIENTS = 64
REQUEST = b"POST /work HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\n{}"


def _running(busy_s: float = 0.002) -> tuple[Server, int, threading.Thread]:
    app = FastAPI()
    app.state.leaving = False

    @app.post("/work")
    async def work() -> str:
        time.sleep(busy_s)  # noqa: ASYNC251 - a busy event loop is the point
        return "done"

    port = free_port()
    server = Server(app, ApiSettings(port=port, drain_s=10))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="the server to listen")
    return server, port, thread


async def _ask(port: int, outcomes: Counter[str], *, requests: int) -> None:
    """A connection and so many requests on it, one after the other, the first at once; what became of each."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        outcomes["refused"] += 1
        await asyncio.sleep(0.05)
        return
    try:
        for _ in range(requests):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len('"done"'))
            outcomes["answered" if head.startswith(b"HTTP/1.1 200") else "failed"] += 1
            if b"connection: close" in head.lower():
                return
    except (ConnectionError, asyncio.IncompleteReadError):
        outcomes["lost"] += 1
    finally:
        writer.transport.abort()


async def _load(server: Server, port: int, *, requests: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    ended = asyncio.Event()

    async def client() -> None:
        while not ended.is_set():
            await _ask(port, outcomes, requests=requests)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
        # Under load when it is told, and tried by all until long after it has gone.
        await asyncio.to_thread(wait_until, lambda: outcomes["answered"] > CLIENTS, what="the load")
        server.should_exit = True
        await asyncio.to_thread(wait_until, lambda: outcomes["refused"] > 10 * CLIENTS, what="the server to refuse")
        ended.set()
    return outcomes


def _see_it_leave(*, requests: int) -> None:
    server, port, thread = _running()
    outcomes = asyncio.run(_load(server, port, requests=requests))
    thread.join(15)

    assert not thread.is_alive()
    assert outcomes.keys() <= {"answered", "refused"}, outcomes


@pytest.mark.parametrize("requests", [1, 1_000_000], ids=["a connection each", "kept connections"])
def test_nobody_who_has_reached_it_is_left_without_an_answer(requests: int) -> None:
    _see_it_leave(requests=requests)


@pytest.fixture
def a_thousand_open() -> Iterator[None]:
    """So many descriptors that those which come next have large numbers, as with thousands of idle connections."""
    use_all_descriptors()
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    yield
    for descriptor in held:
        os.close(descriptor)


@pytest.mark.usefixtures("a_thousand_open")
def test_a_gateway_with_many_connections_leaves_as_any_other() -> None:
    _see_it_leave(requests=1)


def test_all_that_wait_are_taken_however_long_a_turn_of_the_event_loop_takes() -> None:
    # Given connections with a request each, more than the event loop takes before it leaves: it takes one a turn
    server, port, thread = _running(busy_s=0.05)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for client in clients:
            client.sendall(REQUEST)

        # When
        server.should_exit = True

        # Then
        for client in clients:
            client.settimeout(15)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    thread.join(15)
    assert not thread.is_alive()


def test_a_connection_that_brings_nothing_does_not_hold_it_up() -> None:
    server, port, thread = _running()

    async def stand_by() -> float:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        server.should_exit = True
        started = time.monotonic()
        await asyncio.to_thread(thread.join, 15)
        writer.transport.abort()
        return time.monotonic() - started

    assert asyncio.run(stand_by()) < 5
    assert not thread.is_alive()
