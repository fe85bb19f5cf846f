"""HTTP connections on a real server: what is no request is refused, what is too long or late is not waited for."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.connections import Connection
from tests.helpers.hostile_http import AMBIGUOUS, HIDDEN, head
from tests.helpers.raw_http import Exchange, exchange, leave, parsed, post
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until


class Hasty(Connection):
    """Waits for a request's headers, and for a reader, a short while only."""

    head_timeout_s = 0.3
    write_timeout_s = 0.5


#: More than the kernel takes on both sides of a connection.
LARGE = 32 << 20


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that tells what it was asked."""
    request = Request(scope, receive)
    if request.url.path == "/slow":
        await asyncio.sleep(0.5)
    if request.url.path == "/large":
        await Response(b" " * LARGE)(scope, receive, send)
        return
    if request.url.path == "/unread":
        await JSONResponse({"path": "/unread"}, status_code=404)(scope, receive, send)
        return
    body = (await request.body()).decode()
    told = {"told": request.headers["x-told"]} if "x-told" in request.headers else {}
    response: Response = JSONResponse({"path": request.url.path, "body": body, **told})
    await response(scope, receive, send)


@contextmanager
def serving() -> Iterator[tuple[int, Callable[[], float]]]:
    """A server of it; its port, and what ends it and tells how long that took, in seconds."""
    config = uvicorn.Config(
        echo, port=free_port(), log_config=None, http=Hasty, ws="none", loop="uvloop", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)

    def end() -> float:
        started = time.monotonic()
        server.should_exit = True
        thread.join(10)
        return time.monotonic() - started

    thread.start()
    wait_until(lambda: server.started, what="the server to listen")
    yield config.port, end
    end()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where it is served."""
    with serving() as (port, _):
        yield port


def sent(port: int, *pieces: bytes, patience_s: float = 10.0) -> Exchange:
    return asyncio.run(exchange(port, pieces, patience_s=patience_s))


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_request_whose_end_is_in_doubt_is_refused_and_what_hides_behind_it_is_not_answered(
    port: int, request_: bytes
) -> None:
    found = sent(port, request_ + HIDDEN)

    assert found.closed
    assert found.statuses == [400]
    refusal = json.loads(found.responses[0].body)
    assert refusal["error"]["code"] == "malformed_http"
    assert refusal["detail"] == refusal["message"] == refusal["error"]["message"]


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.2"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_request_that_offers_another_protocol_is_answered_with_its_body(
    port: int, offer: bytes, *, apart: bool
) -> None:
    # As Java's HTTP client sends its first request to an address without TLS
    lines = [b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + offer, b"http2-settings: AAEAAEAAAAIAAAABAAMAAABk"]
    first, body = head(*lines, b"content-length: 6"), b"a mill"

    found = sent(port, *([first, body] if apart else [first + body]), post("/again", b"x"))

    assert [json.loads(response.body) for response in found.responses] == [
        {"path": "/embed", "body": "a mill"},
        {"path": "/again", "body": "x"},
    ]


def test_who_offers_another_protocol_and_wants_to_close_is_closed(port: int) -> None:
    found = sent(port, head(b"connection: close, Upgrade", b"upgrade: h2c", b"content-length: 1") + b"x")

    assert found.closed
    assert found.statuses == [200]


@pytest.mark.parametrize("endless", [b"x: " + b"y" * 90_000, b"x: y\r\n" * 15_000], ids=["one header", "many headers"])
def test_headers_that_do_not_end_are_refused(port: int, endless: bytes) -> None:
    found = sent(port, b"GET / HTTP/1.1\r\n" + endless)

    assert found.closed
    assert found.statuses == [431]


CHUNKED = head(b"transfer-encoding: chunked", start=b"POST /whole HTTP/1.1") + b"2\r\nab\r\n0\r\n"


def test_fields_behind_a_body_are_no_headers(port: int) -> None:
    found = sent(port, CHUNKED + b"x-told: by a trailer\r\n\r\n", head(b"content-length: 0"))

    assert [json.loads(response.body) for response in found.responses] == [
        {"path": "/whole", "body": "ab"},
        {"path": "/embed", "body": ""},
    ]


@pytest.mark.parametrize("path", [b"/whole", b"/unread"], ids=["before it is answered", "after its answer"])
@pytest.mark.parametrize("endless", [b"y" * 90_000, b"x: y\r\n" * 15_000], ids=["one field", "many fields"])
def test_fields_behind_a_body_that_do_not_end_are_refused(port: int, path: bytes, endless: bytes) -> None:
    found = sent(port, CHUNKED.replace(b"/whole", path), endless, endless)

    assert found.closed
    assert found.statuses == [431 if path == b"/whole" else 404]


def test_fields_behind_a_body_are_not_waited_for(port: int) -> None:
    began = time.monotonic()

    found = sent(port, CHUNKED + b"x: y\r\n", b"x: y\r\n")

    assert found.statuses == [408]
    assert time.monotonic() - began < 5


def test_a_client_that_goes_on_sending_reads_why_it_was_refused(port: int) -> None:
    found = sent(port, *([b"POST / HTTP/1.1\r\nx : y\r\n"] + [b"z" * 100_000] * 20))

    assert found.statuses == [400]


def test_a_client_that_never_finishes_its_headers_is_not_waited_for(port: int) -> None:
    assert sent(port, b"GET / HTTP/1.1\r\nhost: m").statuses == [408]
    silent = sent(port)
    assert silent.closed
    assert silent.statuses == []


def test_each_request_of_a_connection_has_the_same_bounds(port: int) -> None:
    request = head(b"content-length: 1") + b"x"

    late = sent(port, request, request, b"GET / HTTP/1.1\r\nhost: m")
    large = sent(port, request, b"GET / HTTP/1.1\r\nx: " + b"y" * 90_000)

    assert late.statuses == [200, 200, 408]
    assert large.statuses == [200, 431]


@pytest.mark.parametrize("last", [b"", b"RUBBISH\r\n\r\n"])
def test_what_is_left_of_several_requests_at_once_is_no_fault(
    port: int, last: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a first request that is being answered, and a second that waits
    request = head(b"content-length: 1", start=b"POST /slow HTTP/1.1") + b"x"

    # When the client leaves, or goes on with rubbish
    asyncio.run(leave(port, [request + request, last]) if not last else exchange(port, [request + request + last]))
    time.sleep(0.5)  # as long as the first takes

    # Then nobody has written to who has gone
    assert sent(port, post("/embed", b"x")).statuses == [200]
    assert "Exception in ASGI application" not in caplog.text


def test_a_body_may_be_large_and_slow(port: int) -> None:
    body = b"a" * 300_000
    request = post("/embed", body)

    async def slowly() -> Exchange:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(request), 100_000):
            writer.write(request[start : start + 100_000])
            await writer.drain()
            await asyncio.sleep(0.2)  # longer, all together, than the headers may take
        received = await reader.read()
        writer.close()
        return Exchange(parsed(received), closed=True)

    (response,) = asyncio.run(slowly()).responses

    assert response.status == 200
    assert len(json.loads(response.body)["body"]) == 300_000


def test_an_answer_that_comes_before_the_body_is_not_lost(port: int) -> None:
    # Given a request that is answered by its headers, with a body that arrives when the server has done with it
    whole = post("/unread", b"x" * 1000)
    beginning, body = whole[:-1000], whole[-1000:]

    # When
    found = [sent(port, beginning, body[:500], body[500:]) for _ in range(20)]

    # Then it is read every time, and the connection is closed
    assert [each.statuses for each in found] == [[404]] * 20
    assert all(each.closed for each in found)


@pytest.mark.parametrize("behind", [b"GET /next HT", b"GET /next HTTP/1.1\r\nx: " + b"y" * 70_000, b"nonsense\r\n\r\n"])
def test_what_is_wrong_behind_a_request_does_not_take_its_answer_away(port: int, behind: bytes) -> None:
    # Given a request that takes longer to answer than a head may take to come
    body = b" " * 100_000
    first = head(b"content-length: %d" % len(body), start=b"POST /slow HTTP/1.1") + body

    found = sent(port, first + behind)

    assert found.statuses == [200]
    assert json.loads(found.responses[0].body)["path"] == "/slow"
    assert found.closed


def test_a_wrong_body_behind_a_request_does_not_take_its_answer_away(port: int) -> None:
    first = head(b"content-length: 2", start=b"POST /slow HTTP/1.1") + b"ab"
    second = head(b"content-length: 2", start=b"POST /second HTTP/1.1") + b"cd"
    third = head(b"transfer-encoding: chunked", start=b"POST /third HTTP/1.1") + b"5\r\n12345\r\nZZZ\r\n"

    found = sent(port, first + second + third)

    assert [json.loads(response.body)["path"] for response in found.responses] == ["/slow", "/second"]
    assert found.closed


def test_who_is_refused_before_being_told_to_go_on_is_told_that_the_connection_ends(port: int) -> None:
    request = head(b"expect: 100-continue", b"content-length: 1000", start=b"POST /unread HTTP/1.1")

    found = sent(port, request)

    assert found.statuses == [404]
    assert found.responses[0].headers["connection"] == "close"
    assert found.closed


def test_who_takes_nothing_of_an_answer_is_cut_off(port: int) -> None:
    async def stare() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(start=b"GET /large HTTP/1.1"))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a socket's
        await asyncio.sleep(4 * Hasty.write_timeout_s)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = 0
        try:
            async with asyncio.timeout(10):
                while chunk := await reader.read(1 << 20):
                    received += len(chunk)
        except ConnectionError:
            pass  # cut off, as it should be
        finally:
            writer.transport.abort()
        return received

    assert asyncio.run(stare()) < LARGE


def test_who_takes_an_answer_slowly_gets_all_of_it(port: int) -> None:
    async def sip() -> tuple[int, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(head(start=b"GET /large HTTP/1.1"))
        started, received = time.monotonic(), 0
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            while received < LARGE:
                received += len(await reader.readexactly(LARGE // 32))
                await asyncio.sleep(Hasty.write_timeout_s / 8)
        writer.transport.abort()
        return received, time.monotonic() - started

    received, took_s = asyncio.run(sip())

    assert received == LARGE
    assert took_s > 2 * Hasty.write_timeout_s


def test_who_is_refused_in_the_middle_of_a_large_body_may_send_it_to_its_end_and_reads_the_refusal(port: int) -> None:
    # As most clients do, which read nothing before all is sent
    size, pieces = LARGE, 8
    request = head(b"connection: close", b"content-length: %d" % size, start=b"POST /unread HTTP/1.1")

    found = sent(port, request, *[b" " * (size // pieces)] * pieces)

    assert found.statuses == [404]
    assert found.closed


def test_who_goes_on_sending_to_a_server_that_leaves_does_not_keep_it() -> None:
    # Given a client that has been refused and sends without an end
    with serving() as (port, end), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(head(b"connection: close", b"content-length: %d" % (1 << 40), start=b"POST /unread HTTP/1.1"))
        gone = threading.Event()

        def go_on() -> None:
            with suppress(OSError):
                while not gone.wait(0.01):
                    client.sendall(b" " * 1000)

        thread = threading.Thread(target=go_on)
        thread.start()
        time.sleep(0.5)

        # When the server is told to leave
        took_s = end()

        # Then
        gone.set()
        thread.join()
        assert took_s < 5
