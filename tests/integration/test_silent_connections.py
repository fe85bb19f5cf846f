"""Connections that fell silent together are ended together, whoever waits for them; others are let be."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop
from kombu import Connection
from redis import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis_address import connect, connect_aio, connect_aio_waiting
from shared.redis_connections import SilenceWatch, met_with_silence
from tests.helpers.certificates import make_certificates
from tests.helpers.tcp_proxy import TcpProxy, running_proxy
from tests.helpers.valkey import ValkeyServer

#: More than anything here may take, in seconds.
TIMEOUT_S = 60.0
#: Time to wait for what does not come, in seconds.
PAUSE_S = 0.3


@pytest.fixture(params=["plain", "TLS"])
def line(request: pytest.FixtureRequest, own_valkey: ValkeyServer, tmp_path: Path) -> Iterator[tuple[TcpProxy, str]]:
    """A way to the server that a test can make silent, and its address."""
    if request.param == "plain":
        with running_proxy(own_valkey.port) as proxy:
            yield proxy, f"redis://127.0.0.1:{proxy.port}/0"
        return
    certificates = make_certificates(tmp_path)
    with running_proxy(own_valkey.port, tls=certificates.server_context()) as proxy:
        yield proxy, f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificates.authority}"


def _redis_answers_again(silent_since: float) -> None:
    """Somebody asked, waited for nothing, and was answered by a new connection."""
    watch = SilenceWatch()
    watch.failed(RedisTimeoutError(), silent_since)
    watch.answered()


def test_who_waits_for_silent_connections_is_told_at_once_and_goes_on_with_new_ones(line: tuple[TcpProxy, str]) -> None:
    # Given two connections of a pool, one of which somebody waits for in another thread, and nothing comes any more
    proxy, url = line
    with connect(url, socket_timeout=TIMEOUT_S) as client, ThreadPoolExecutor(1) as threads:
        with client.pubsub() as idle:
            idle.subscribe("channel")
        waiting = threads.submit(client.blpop, ["nothing"], TIMEOUT_S)
        time.sleep(PAUSE_S)
        proxy.forget()
        silent_since = time.monotonic()

        # When
        _redis_answers_again(silent_since)

        # Then
        with pytest.raises(RedisConnectionError):
            waiting.result(timeout=5)
        assert client.ping()
        assert time.monotonic() < silent_since + 5


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_the_same_on_an_event_loop(
    line: tuple[TcpProxy, str], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    proxy, url = line

    async def wait_and_go_on() -> float:
        dispatch = connect_aio(url, socket_timeout=TIMEOUT_S)
        routes = connect_aio_waiting(url, max_connections=2, patience_s=None, socket_timeout=TIMEOUT_S)
        await routes.ping()
        waiting = asyncio.ensure_future(dispatch.blpop(["nothing"], TIMEOUT_S))
        await asyncio.sleep(PAUSE_S)
        proxy.forget()
        silent_since = time.monotonic()
        _redis_answers_again(silent_since)
        with pytest.raises(RedisConnectionError):
            await waiting
        assert await dispatch.ping()
        assert await routes.ping()
        took_s = time.monotonic() - silent_since
        await dispatch.aclose()
        await routes.aclose()
        return took_s

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(wait_and_go_on()) < 5


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_who_asks_while_connections_are_ended_is_answered_by_the_second_attempt(
    line: tuple[TcpProxy, str], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """However the two fall together: an error of another kind would end a loop that is there for good, and its process."""
    _, url = line

    async def ask_meanwhile() -> None:
        client = connect_aio(url, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1))
        for turns in range(8):
            await asyncio.gather(*(client.ping() for _ in range(20)))
            _redis_answers_again(time.monotonic())
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.gather(*(client.ping() for _ in range(20)))
        await client.aclose()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask_meanwhile())


async def _asked(connection: AbstractConnection) -> None:
    for _ in range(3):  # asyncio takes what is written first for sent
        await connection.send_command("PING")
        await connection.read_response()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_is_sent_on_a_connection_that_has_just_ended_finds_it_lost(
    own_valkey: ValkeyServer, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """By uvloop itself it is a RuntimeError, which ends loops that are there for good."""

    async def send() -> None:
        async with connect_aio(f"redis://127.0.0.1:{own_valkey.port}/0", socket_timeout=TIMEOUT_S) as client:
            connection = await client.connection_pool.get_connection()
            connection._writer.transport.abort()
            with pytest.raises(RedisConnectionError):
                await _asked(connection)
            await client.connection_pool.release(connection)
            assert await client.ping()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(send())


def test_a_workers_consumer_is_told_too(line: tuple[TcpProxy, str]) -> None:
    proxy, url = line
    options = {"socket_timeout": TIMEOUT_S}
    with (
        Connection(url, transport="workers.transport:Transport", transport_options=options) as connection,
        ThreadPoolExecutor(1) as threads,
    ):
        channel = connection.channel()
        client = channel._create_client()
        waiting = threads.submit(client.blpop, ["nothing"], TIMEOUT_S)
        time.sleep(PAUSE_S)
        proxy.forget()
        _redis_answers_again(time.monotonic())

        with pytest.raises(RedisConnectionError):
            waiting.result(timeout=5)


def test_a_silence_that_another_has_met_with_ends_connections_when_a_watcher_is_answered(
    line: tuple[TcpProxy, str],
) -> None:
    """The watcher's own connection may be one that lives."""
    proxy, url = line
    with connect(url, socket_timeout=TIMEOUT_S) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.blpop, ["nothing"], TIMEOUT_S)
        time.sleep(PAUSE_S)
        proxy.forget()
        met_with_silence(RedisConnectionError("refused"))
        SilenceWatch().answered()
        assert not waiting.done()

        met_with_silence(RedisTimeoutError())
        SilenceWatch().answered()

        with pytest.raises(RedisConnectionError):
            waiting.result(timeout=5)


def test_connections_that_have_been_given_up_are_no_trouble(own_valkey: ValkeyServer) -> None:
    with connect(f"redis://127.0.0.1:{own_valkey.port}/0") as client:
        client.ping()
        client.connection_pool.disconnect()

        _redis_answers_again(time.monotonic())

        assert client.ping()


def test_connections_that_are_newer_than_the_silence_are_let_be(own_valkey: ValkeyServer) -> None:
    with connect(f"redis://127.0.0.1:{own_valkey.port}/0") as client:
        silent_since = time.monotonic()
        number = client.client_id()

        _redis_answers_again(silent_since)

        assert client.client_id() == number


@pytest.mark.parametrize("error", [RedisConnectionError("refused"), OSError("unreachable")])
def test_a_server_that_was_away_ends_nothing_by_itself(own_valkey: ValkeyServer, error: Exception) -> None:
    """Its connections have ended already; those of another server, or of a proxy that lives, have not."""
    with connect(f"redis://127.0.0.1:{own_valkey.port}/0") as client:
        number = client.client_id()
        watch = SilenceWatch()

        watch.failed(error, time.monotonic())
        watch.answered()

        assert client.client_id() == number


def test_a_silence_ends_connections_once(own_valkey: ValkeyServer) -> None:
    with connect(f"redis://127.0.0.1:{own_valkey.port}/0") as client:
        watch = SilenceWatch()
        client.ping()
        watch.failed(RedisTimeoutError(), time.monotonic())
        watch.answered()
        number = _number(client)

        watch.answered()

        assert _number(client) == number


def _number(client: Redis) -> int:
    return int(client.client_id())
