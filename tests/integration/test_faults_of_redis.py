"""The faults of `make chaos` are what they are called: a proxy that cuts, is silent or forgets, and a full disk."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, TimeoutError

from tests.helpers.tcp_proxy import TcpProxy, running_proxy
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until


@pytest.fixture
def proxy(own_valkey: ValkeyServer) -> Iterator[TcpProxy]:
    with running_proxy(own_valkey.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[Redis]:
    with Redis(port=proxy.port, socket_timeout=0.5, single_connection_client=True, retry=None) as client:
        client.ping()
        yield client


def test_a_cut_connection_is_reset_and_new_ones_are_refused_until_it_is_mended(proxy: TcpProxy, client: Redis) -> None:
    proxy.cut()

    with pytest.raises(RedisConnectionError):
        client.ping()
    with pytest.raises(RedisConnectionError, match="refused"):
        client.ping()
    proxy.mend()
    assert client.ping()


def test_a_silent_connection_says_nothing_and_then_everything(proxy: TcpProxy, client: Redis) -> None:
    proxy.silence()

    with pytest.raises(TimeoutError):
        client.set("said", "while silent")
    proxy.mend()
    wait_until(lambda: client.get("said") == b"while silent", what="what was sent to arrive")


def test_a_forgotten_connection_is_silent_for_ever_and_a_new_one_is_not(proxy: TcpProxy, client: Redis) -> None:
    proxy.forget()

    with pytest.raises(TimeoutError):
        client.set("said", "to nobody")
    assert client.get("said") is None  # on a new connection


def test_a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room(own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url()) as client:
        client.set("before", "1")
        own_valkey.fill_disk()
        client.set("noticed", "by this")
        wait_until(lambda: not own_valkey.can_write(), what="the full disk to be noticed")

        with pytest.raises(ResponseError, match="MISCONF"):
            client.set("refused", "1")

        own_valkey.free_disk()
        wait_until(own_valkey.can_write, what="room to be noticed")
        client.set("after", "1")
    own_valkey.restart(crash=True)
    with Redis.from_url(own_valkey.url()) as client:
        assert client.mget("before", "noticed", "refused", "after") == [b"1", b"by this", None, b"1"]


def test_half_a_command_at_the_end_of_the_file_is_no_obstacle(own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url()) as client:
        client.set("before", "1")
    own_valkey.kill()
    own_valkey.tear_tail()

    own_valkey.start()

    with Redis.from_url(own_valkey.url()) as client:
        assert client.get("before") == b"1"
        assert client.dbsize() == 1
