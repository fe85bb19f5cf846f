"""Redis' append-only file after its disk was full: what is written then is still there after the next start."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis import asyncio as aioredis

from api.append_only_file import AppendOnlyFile
from millrace.embedded_redis import server_binary
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

#: Processes that look after one file.
PROCESSES = 4


def fill_and_free(valkey: ValkeyServer) -> None:
    """A full disk cuts a write in its middle; then there is room again."""
    with Redis.from_url(valkey.url()) as client:
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], what="the file to be rewritten")
        client.set("before", "1")
        valkey.fill_disk()
        client.set("cut off", "in the middle of its value")
        wait_until(lambda: not valkey.can_write(), what="the full disk to be noticed")
        time.sleep(1.0)  # each process looks once
        valkey.free_disk()
        wait_until(valkey.can_write, what="room to be noticed")
        client.set("after", "1")


def rewrites(client: Redis) -> int:
    """How often the file has been rewritten since the server started."""
    about = client.info("persistence")
    return -1 if about["aof_rewrite_in_progress"] else int(about["aof_rewrites"])


def test_left_alone_the_server_does_not_start_again(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    # Why all this: should a newer server do better, this test says so, and the module can go
    fill_and_free(own_valkey)

    with pytest.raises(RuntimeError, match="Bad file format"):
        own_valkey.restart(crash=True)

    # And does after what the runbook says
    check = tmp_path / "valkey-check-aof"
    check.symlink_to(server_binary())
    subprocess.run([check, "--fix", own_valkey.append_only_file()], input=b"y\n", check=True, capture_output=True)
    own_valkey.start()
    with Redis.from_url(own_valkey.url()) as client:
        assert client.mget("before", "after") == [b"1", None]


@asynccontextmanager
async def watching(url: str, count: int) -> AsyncIterator[None]:
    """So many processes look after the file."""
    clients = [aioredis.Redis.from_url(url) for _ in range(count)]
    watchers = [asyncio.create_task(AppendOnlyFile(client).watch()) for client in clients]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        for client in clients:
            await client.aclose()


def test_rewritten_it_is_whole(own_valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with watching(own_valkey.url(), PROCESSES):
            await asyncio.to_thread(fill_and_free, own_valkey)
            with Redis.from_url(own_valkey.url()) as client:
                await asyncio.to_thread(wait_until, lambda: rewrites(client) == 2, what="the file to be rewritten")
                client.set("later", "1")
                await asyncio.sleep(1.5)
                assert rewrites(client) == 2  # once, whoever asked

    asyncio.run(scene())

    own_valkey.restart(crash=True)
    with Redis.from_url(own_valkey.url()) as client:
        assert client.mget("before", "after", "later") == [b"1"] * 3


def test_a_disk_that_soon_fills_up_again_is_no_less_trouble(own_valkey: ValkeyServer) -> None:
    async def scene() -> None:
        async with watching(own_valkey.url(), PROCESSES):
            with Redis.from_url(own_valkey.url()) as client:
                for expected in (2, 4):
                    await asyncio.to_thread(fill_and_free, own_valkey)
                    await asyncio.to_thread(
                        wait_until, lambda most=expected: rewrites(client) >= most, what="the file to be rewritten"
                    )

    asyncio.run(scene())

    own_valkey.restart(crash=True)
    with Redis.from_url(own_valkey.url()) as client:
        assert client.mget("before", "after") == [b"1"] * 2


def test_a_user_who_may_not_ask_is_no_trouble(own_valkey: ValkeyServer, capfd: pytest.CaptureFixture[str]) -> None:
    with Redis.from_url(own_valkey.url()) as client:
        client.execute_command("ACL SETUSER small on >small +@all -bgrewriteaof ~*")

    async def scene() -> None:
        url = own_valkey.url().replace("redis://", "redis://small:small@")
        async with watching(url, 1):
            await asyncio.to_thread(fill_and_free, own_valkey)
            await asyncio.sleep(1.5)

    asyncio.run(scene())

    with Redis.from_url(own_valkey.url()) as client:
        assert rewrites(client) == 1
    assert "append_only_file_not_rewritten" in capfd.readouterr().out
