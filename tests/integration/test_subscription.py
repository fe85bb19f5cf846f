"""The gateway's one subscription: quiet is not dead, and dead is noticed."""

import asyncio

import pytest
from redis.asyncio import Redis

from api import replies
from api.replies import Replies
from shared.metrics import Metrics, Owner


async def _connections(redis: Redis) -> set[str]:
    """Ids of the connections that subscribe to a pattern."""
    return {client["id"] for client in await redis.client_list() if int(client["psub"])}


async def _listen(redis_url: str, seconds: float) -> set[str]:
    """All connections that a listener has had while nothing came."""
    async with Redis.from_url(redis_url) as redis, Redis.from_url(redis_url) as subscriber:
        listener = Replies(redis, subscriber, Metrics(Owner.GATEWAY), "gw-quiet")
        listening = asyncio.create_task(listener.listen())
        await listener.subscribed.wait()
        seen: set[str] = set()
        for _ in range(int(seconds / 0.02)):
            seen |= await _connections(redis)
            await asyncio.sleep(0.02)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        return seen


def test_a_quiet_subscription_is_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # So short that an answer takes a good part of it, as five seconds are on a busy machine.
    monkeypatch.setattr(replies, "PING_AFTER_S", 0.02)
    assert len(asyncio.run(_listen(redis_url, 2.0))) == 1


def test_one_that_does_not_answer_is_replaced(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(replies, "PING_AFTER_S", 0.1)
        async with Redis.from_url(redis_url) as redis, Redis.from_url(redis_url) as subscriber:
            listener = Replies(redis, subscriber, Metrics(Owner.GATEWAY), "gw-deaf")
            listening = asyncio.create_task(listener.listen())
            await listener.subscribed.wait()
            before = await _connections(redis)
            # Nothing is answered to anybody for a while, as when a network swallows it.
            await redis.execute_command("CLIENT", "PAUSE", 1000, "ALL")
            await asyncio.sleep(1.5)
            after = await _connections(redis)
            assert after
            assert after != before
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(test())
