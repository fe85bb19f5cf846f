"""Delivery: stored and published before it is acknowledged, and not lost when Redis goes away."""

import threading
from collections.abc import Iterator

import pytest
from redis import Redis

from shared import keys
from shared.celery_message import Progress, decode_result
from shared.metrics import Metrics, Owner
from shared.results import Output, Reply
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until
from workers.delivery import Advanced, Delivery, Finished

WORKER = "w1"
TTL_S = 60


def _finished(number: int) -> Finished:
    replies: list[Reply] = [Output(shape=(1, 1), data=bytes([number % 256, 0, 0, 0]), tokens=number)]
    return Finished(f"gw-{number}", f"tag-{number}", replies)


def _hold(redis: Redis, *numbers: int) -> None:
    """As kombu records what a worker has taken."""
    redis.hset(keys.unacked(WORKER), mapping={f"tag-{number}": "entry" for number in numbers})


@pytest.fixture
def delivery(redis_url: str) -> Iterator[Delivery]:
    with Redis.from_url(redis_url) as client:
        yield Delivery(client, WORKER, Metrics(Owner.WORKER), result_ttl_s=TTL_S)


def test_a_result_is_stored_published_and_acknowledged(redis: Redis, delivery: Delivery) -> None:
    # Given a gateway that listens, and a worker that holds two messages
    heard = redis.pubsub()
    heard.psubscribe(keys.result_pattern("gw"))
    assert heard.get_message(timeout=5) is not None
    _hold(redis, 1, 2)

    # When one is finished
    assert delivery.deliver([_finished(1)])

    # Then
    value = redis.get(keys.result("gw-1"))
    assert decode_result(value) == _finished(1).replies
    assert 0 < redis.ttl(keys.result("gw-1")) <= TTL_S
    message = heard.get_message(timeout=5)
    assert (message["channel"], message["data"]) == (keys.result("gw-1").encode(), value)
    assert redis.hkeys(keys.unacked(WORKER)) == [b"tag-2"]
    heard.close()


def test_what_is_done_of_a_task_is_stored_and_published_and_the_task_is_still_held(
    redis: Redis, delivery: Delivery
) -> None:
    # Given
    heard = redis.pubsub()
    heard.psubscribe(keys.result_pattern("gw"))
    assert heard.get_message(timeout=5) is not None
    _hold(redis, 1)
    replies = dict(enumerate(_finished(1).replies))

    # When
    assert delivery.deliver([], [Advanced("gw-1", replies)])

    # Then
    value = redis.get(keys.result("gw-1"))
    assert decode_result(value) == Progress(replies)
    assert 0 < redis.ttl(keys.result("gw-1")) <= TTL_S
    assert heard.get_message(timeout=5)["data"] == value
    assert redis.hkeys(keys.unacked(WORKER)) == [b"tag-1"]
    heard.close()


def test_everything_is_stored_and_published_before_anything_is_acknowledged(redis: Redis, delivery: Delivery) -> None:
    # Given
    _hold(redis, 1, 2)

    # When the server is watched while two results are delivered
    with redis.monitor() as monitor:
        assert delivery.deliver([_finished(1), _finished(2)])
        seen: list[str] = []
        for entry in monitor.listen():
            seen.append(entry["command"].split()[0].upper())
            if seen[-1] == "HDEL":
                break

    # Then
    commands = [command for command in seen if command in {"SET", "PUBLISH", "HDEL"}]
    assert commands == ["SET", "PUBLISH", "SET", "PUBLISH", "HDEL"]


def test_a_result_delivered_twice_is_the_same_result(redis: Redis, delivery: Delivery) -> None:
    _hold(redis, 1)

    assert delivery.deliver([_finished(1)])
    assert delivery.deliver([_finished(1)])

    assert decode_result(redis.get(keys.result("gw-1"))) == _finished(1).replies


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_every_result_arrives_although_redis_restarts_in_the_middle(own_valkey: ValkeyServer, crash: bool) -> None:
    # Given a worker that finishes one task after the other
    count = 300
    with Redis.from_url(own_valkey.url()) as redis:
        _hold(redis, *range(count))
    client = Redis.from_url(own_valkey.url(), socket_timeout=5.0, socket_connect_timeout=2.0)
    delivery = Delivery(client, WORKER, Metrics(Owner.WORKER), result_ttl_s=600)
    delivered: list[bool] = []
    middle, go_on = threading.Event(), threading.Event()

    def deliver() -> None:
        for number in range(count):
            if number == count // 2:
                middle.set()
                go_on.wait(20)
            delivered.append(delivery.deliver([_finished(number)]))

    thread = threading.Thread(target=deliver)
    thread.start()
    assert middle.wait(20)

    # When Redis is gone while it delivers the next ones
    own_valkey.kill() if crash else own_valkey.stop()
    go_on.set()
    own_valkey.start()
    thread.join(20)

    # Then nothing is missing and nothing is held any more
    assert delivered == [True] * count
    with Redis.from_url(own_valkey.url()) as redis:
        values = redis.mget([keys.result(f"gw-{number}") for number in range(count)])
        for number, value in enumerate(values):
            assert decode_result(value) == _finished(number).replies
        assert redis.exists(keys.unacked(WORKER)) == 0
    client.close()


def test_delivery_is_given_up_when_the_worker_must_end_and_redis_does_not_come_back(own_valkey: ValkeyServer) -> None:
    # Given
    client = Redis.from_url(own_valkey.url(), socket_timeout=1.0, socket_connect_timeout=1.0)
    delivery = Delivery(client, WORKER, Metrics(Owner.WORKER), result_ttl_s=TTL_S)
    _hold(client, 1)
    own_valkey.stop()
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(delivery.deliver([_finished(1)])))
    thread.start()

    # When
    delivery.give_up.set()

    # Then the message stays unacknowledged, to be recovered
    wait_until(lambda: results == [False], what="delivery to give up")
    thread.join()
    own_valkey.start()
    assert client.hkeys(keys.unacked(WORKER)) == [b"tag-1"]
    client.close()
