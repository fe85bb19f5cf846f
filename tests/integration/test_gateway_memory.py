"""Large bodies and answers, many at a time: the gateway's memory has a bound, and what is small goes on beside them."""

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.waiting import wait_until

MIB = 1 << 20
#: Of which a lane has half.
ROOM = 64 * MIB
#: Of one sender, of whom two have room in a lane.
BODY = 12 * MIB
SENDERS = 12
PATIENCE_S = 1.0


def _settings(patience_s: float) -> dict[str, str]:
    return {"MILLRACE_LARGE_BODIES_BYTES": str(ROOM), "MILLRACE_REQUEST_TIMEOUT_S": str(patience_s)}


@pytest.fixture(params=[PATIENCE_S])
def gateway(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """The real gateway with little room and the patience that a test has with it."""
    with gateway_process(redis_url, tmp_path, _settings(patience_s=request.param)) as gateway:
        yield gateway


def _taken(gateway: GatewayProcess) -> float:
    return gateway.metric("millrace_large_bodies_bytes")


def _begun(gateway: GatewayProcess, stack: ExitStack, header: str = "x: y") -> socket.socket:
    """A request of which all but the end is sent, as far as it is taken."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S / 4))
    connection.sendall(
        f"POST /v1/embeddings HTTP/1.1\r\nhost: mill\r\n{header}\r\ncontent-length: {BODY}\r\n\r\n".encode()
    )
    with suppress(TimeoutError):  # nobody reads it, which is what keeps it out of the gateway's memory
        connection.sendall(b'{"input": "' + b"a" * (BODY - 100))
    return connection


def _read(connection: socket.socket) -> str:
    """An answer: its head and its body, which come apart."""
    connection.settimeout(10)
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(1 << 16)
    return received.decode()


def test_no_more_large_bodies_are_read_than_there_is_room_for(gateway: GatewayProcess) -> None:
    # Given
    with httpx.Client(base_url=gateway.url, trust_env=False) as client, ExitStack() as stack:
        client.post("/v1/embeddings", json={"input": "a"})
        before = gateway.memory()

        # When far more are sent than there is room for, and not ended
        waiting = [_begun(gateway, stack) for _ in range(SENDERS)]
        most = gateway.memory()

        # Then
        assert _taken(gateway) == 2 * BODY
        assert most - before < ROOM

        # And what is small goes on beside them
        started = time.monotonic()
        answer = client.post("/v1/embeddings", json={"input": "a" * 1000, "model": "none"})
        assert answer.status_code == 404
        assert time.monotonic() - started < PATIENCE_S

        # And who waited in vain is told so, and when to come back
        refusal = _read(waiting[-1])
        assert refusal.startswith("HTTP/1.1 429 ")
        assert "overloaded" in refusal
        assert "retry-after" in refusal

    # And all room is there again when they have left
    wait_until(lambda: _taken(gateway) == 0, what="the room that was taken")
    whole = b'{"model": "none", "input": "' + b"a" * BODY + b'"}'
    assert httpx.post(f"{gateway.url}/v1/embeddings", content=whole, trust_env=False).status_code == 404


@pytest.mark.parametrize("gateway", [30.0], indirect=True)
def test_who_has_room_and_sends_nothing_makes_way_for_who_waits(gateway: GatewayProcess) -> None:
    # Given a lane's room in the hands of senders who have fallen silent
    with ExitStack() as stack:
        silent = [_begun(gateway, stack) for _ in range(2)]
        wait_until(lambda: _taken(gateway) == 2 * BODY, what="the room to be taken")

        # When somebody sends a whole body
        whole = b'{"model": "none", "input": "' + b"a" * BODY + b'"}'
        started = time.monotonic()
        answer = httpx.post(f"{gateway.url}/v1/embeddings", content=whole, trust_env=False, timeout=40)

        # Then one of them makes way, and is told why
        assert answer.status_code == 404
        assert time.monotonic() - started < 20
        refusal = _read(silent[0])
        assert refusal.startswith("HTTP/1.1 408 ")
        assert "others wait for the room of this body" in refusal


def test_bulk_work_takes_no_room_of_searches(gateway: GatewayProcess) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            _begun(gateway, stack, "x-millrace-lane: bulk")

        whole = b'{"model": "none", "input": "' + b"a" * BODY + b'"}'
        assert httpx.post(f"{gateway.url}/v1/embeddings", content=whole, trust_env=False).status_code == 404


def test_packed_bodies_take_no_more_room_than_there_can_be_in_them(gateway: GatewayProcess) -> None:
    with ExitStack() as stack:
        packed = gzip.compress(b'{"input": "' + b"a" * MIB)
        lines = [
            "POST /v1/embeddings HTTP/1.1",
            "host: mill",
            "content-encoding: gzip",
            f"content-length: {len(packed)}",
        ]
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=10))
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + packed[:-1])

        wait_until(lambda: _taken(gateway) > 0, what="the room to be taken")

        assert _taken(gateway) < 2 * MIB


def test_who_waits_for_room_is_not_taken_for_slow(redis_url: str, tmp_path: Path) -> None:
    # Given a gateway on which bodies have a second to come, and no room
    with (
        gateway_process(redis_url, tmp_path, {**_settings(patience_s=2.0), "MILLRACE_BODY_TIMEOUT_S": "3"}) as one,
        ExitStack() as stack,
    ):
        for _ in range(2):
            _begun(one, stack)
        wait_until(lambda: _taken(one) == 2 * BODY, what="the room to be taken")

        # When somebody sends all at once, then it is room that there is none of
        whole = b'{"model": "none", "input": "' + b"a" * BODY + b'"}'
        answer = httpx.post(f"{one.url}/v1/embeddings", content=whole, trust_env=False, timeout=20)
        assert answer.status_code in (404, 429)
