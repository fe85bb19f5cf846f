"""Large bodies as their senders notice them: refused while they are sent, and nobody waits for them."""

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from api.app import create_app
from api.settings import ApiSettings
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

LIMIT = 1 << 20
#: What the kernel takes of a sender on both sides before anybody reads it, and then some.
BUFFERED = 16 << 20


@pytest.fixture(scope="module")
def port(valkey_url: str) -> Iterator[int]:
    """The real gateway, which takes one megabyte."""
    settings = ApiSettings(redis_url=SecretStr(valkey_url), body_limit_bytes=LIMIT, access_log=False)
    port = free_port()
    config = uvicorn.Config(create_app(settings), port=port, log_config=None, access_log=False, http="httptools")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, what="the gateway to listen")
    yield port
    server.should_exit = True
    thread.join(10)


def _send(port: int, head: str, chunk: bytes) -> tuple[int, str, int]:
    """Send chunks until there is an answer; its status and code, and how many bytes were sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        lines = f"POST /v1/embeddings HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n{head}\r\n\r\n"
        connection.sendall(lines.encode())
        sent = 0
        connection.setblocking(False)
        answer = b""
        while not answer and sent < 2 * BUFFERED:
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(1 << 16)
            if chunk and not answer:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    sent += connection.send(chunk)
        status, body = answer.split(b" ", 2)[1], answer.partition(b"\r\n\r\n")[2]
        # A chunk that was sent in part is no HTTP, which a second answer may say.
        refusal, _ = json.JSONDecoder().raw_decode(body.decode())
        return int(status), refusal["error"]["code"], sent


def test_a_body_that_says_that_it_is_too_large_is_refused_before_any_of_it_is_sent(port: int) -> None:
    assert _send(port, f"content-length: {LIMIT + 1}", b"") == (413, "body_too_large", 0)


def test_an_endless_stream_is_refused_when_it_is_over_the_limit(port: int) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    status, code, sent = _send(port, "transfer-encoding: chunked", chunk)

    assert (status, code) == (413, "body_too_large")
    assert sent < LIMIT + BUFFERED


@pytest.mark.parametrize("stated", [True, False], ids=["of known length", "streamed"])
def test_a_large_body_is_understood_as_a_small_one_is(port: int, stated: bool) -> None:
    body = json.dumps({"input": ["a mill"] * 40_000}).encode()
    content = body if stated else iter([body[:300_000], body[300_000:]])

    answer = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", content=content, trust_env=False, timeout=30)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "batch_too_large")


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (json.dumps({"input": ["a mill"] * 40_000}).encode(), "gzip", 413, "batch_too_large"),
        (b'{"input": "' + b"a" * 50 * LIMIT, "gzip", 413, "body_too_large"),
        (b'{"input": ""}', "gzip", 400, "empty_input"),
        (b'{"input": ""}', "zstd", 415, "unsupported_media_type"),
    ],
    ids=["large", "larger than it looks", "small", "packed in another way"],
)
def test_a_compressed_body_is_understood_as_it_would_be_without(
    port: int, body: bytes, encoding: str, status: int, code: str
) -> None:
    packed = gzip.compress(body)
    assert len(packed) < LIMIT

    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/embeddings",
        content=packed,
        headers={"content-encoding": encoding},
        trust_env=False,
        timeout=30,
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
