"""The transport: closed lanes are left alone, and a connection that breaks takes nothing with it."""

import base64
import json
import resource
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from shared import keys
from shared.celery_message import MESSAGE_LIMIT_BYTES, encode_task
from shared.jobs import EmbedRequest, Task
from shared.queues import Lane, Operation, queue_name
from tests.helpers.consumers import Taker
from tests.helpers.tcp_proxy import running_proxy
from tests.helpers.valkey import ValkeyServer
from workers.transport import FLOW, OpenLanes

MODEL = "org/model"
QUEUE, BULK = (queue_name(MODEL, lane) for lane in Lane)

pytestmark = pytest.mark.usefixtures("flow")


def _message(task_id: str, lane: Lane = Lane.INTERACTIVE) -> bytes:
    request = EmbedRequest(request_id="r", deadline=2e9, texts=["text"])
    return encode_task(
        task_id, Task(model=MODEL, lane=lane, operation=Operation.EMBED, requests=[request]), origin="gw"
    )


def test_the_lanes_are_popped_in_declared_order_without_the_closed_ones() -> None:
    # Given
    lanes = OpenLanes(["a.interactive", "b.interactive", "a.bulk", "b.bulk"])

    # Then all are open at first, and taking from one does not move it to the end
    assert lanes.consume(4) == ["a.interactive", "b.interactive", "a.bulk", "b.bulk"]
    lanes.rotate("a.interactive")

    # When
    FLOW.closed = frozenset({"a.bulk", "b.interactive"})

    # Then
    assert lanes.consume(4) == ["a.interactive", "b.bulk"]


def test_interactive_messages_come_before_bulk_messages_that_waited_longer(redis_url: str, redis: Redis) -> None:
    # Given
    redis.lpush(BULK, _message("gw-bulk", Lane.BULK))
    redis.lpush(QUEUE, _message("gw-now"))

    # When
    with Taker(redis_url, "w1", [QUEUE, BULK]) as taker:
        tags = [message.delivery_tag for message in taker.take(2)]

    # Then
    assert tags == ["gw-now", "gw-bulk"]


def test_a_closed_lane_is_left_alone_while_the_open_one_is_served(redis_url: str, redis: Redis) -> None:
    # Given bulk that has its share
    FLOW.closed = frozenset({BULK})
    redis.lpush(BULK, _message("gw-bulk", Lane.BULK))
    with Taker(redis_url, "w1", [QUEUE, BULK]) as taker:
        assert taker.take_what_there_is() == []

        # When
        redis.lpush(QUEUE, _message("gw-now"))

        # Then
        assert [message.delivery_tag for message in taker.take_what_there_is()] == ["gw-now"]
        assert redis.llen(BULK) == 1


def test_a_lane_that_is_opened_again_is_noticed(redis_url: str, redis: Redis) -> None:
    # Given a consumer whose pop leaves bulk out
    FLOW.closed = frozenset({BULK})
    redis.lpush(BULK, _message("gw-bulk", Lane.BULK))
    with Taker(redis_url, "w1", [QUEUE, BULK]) as taker:
        assert taker.take_what_there_is() == []

        # When
        FLOW.closed = frozenset()

        # Then
        assert [message.delivery_tag for message in taker.take(timeout_s=2)] == ["gw-bulk"]


def test_with_all_lanes_closed_nothing_is_taken_until_one_opens(redis_url: str, redis: Redis) -> None:
    # Given
    FLOW.closed = frozenset({QUEUE, BULK})
    redis.lpush(QUEUE, _message("gw-now"))
    with Taker(redis_url, "w1", [QUEUE, BULK]) as taker:
        assert taker.take_what_there_is() == []

        # When
        FLOW.closed = frozenset({BULK})

        # Then
        assert [message.delivery_tag for message in taker.take(timeout_s=2)] == ["gw-now"]


def test_an_acknowledged_message_is_forgotten(redis_url: str, redis: Redis) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    with Taker(redis_url, "w1", [QUEUE]) as taker:
        (message,) = taker.take()

        # When
        message.ack()

        # Then
        assert redis.exists(keys.unacked("w1")) == 0


def test_a_message_that_the_pool_has_settled_is_not_acknowledged_a_second_time(redis_url: str, redis: Redis) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    with Taker(redis_url, "w1", [QUEUE]) as taker:
        (message,) = taker.take()
        FLOW.settled.add("gw-1")

        # When
        message.ack()

        # Then Redis was not asked: the entry that the pool would have removed is still there
        assert redis.hexists(keys.unacked("w1"), "gw-1")
        assert not FLOW.settled
        assert message.acknowledged


def test_a_connection_that_closes_while_the_worker_works_gives_nothing_back(redis_url: str, redis: Redis) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    taker = Taker(redis_url, "w1", [QUEUE])
    taker.take()

    # When
    taker.close()

    # Then the pool still works on it
    assert redis.llen(QUEUE) == 0
    assert redis.hexists(keys.unacked("w1"), "gw-1")


def test_a_record_whose_answer_is_lost_while_the_channel_closes_drops_no_message(
    own_valkey: ValkeyServer,
) -> None:
    """Written and dropped, the message would count as held by a worker that lives, and be nobody's."""
    # Given a channel that closes, with a message in hand, and a line on which nothing comes back any more
    with (
        running_proxy(own_valkey.port) as proxy,
        Taker(f"redis://127.0.0.1:{proxy.port}/0", "w1", [QUEUE]) as taker,
    ):
        channel = taker.channel
        channel.record("unacked", "first", "entry")
        channel._confirm_record()
        proxy.forget()
        channel._closing = True

        # When
        with capture_logs() as logs:
            channel.record("unacked", "second", "entry")

        # Then whoever records it goes on with it
        assert [entry["event"] for entry in logs] == ["record_unconfirmed"]


@pytest.mark.parametrize("settle", ["ack", "reject", "requeue"])
def test_what_is_settled_after_its_connection_has_closed_ends_no_worker(
    redis_url: str, redis: Redis, settle: str
) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    taker = Taker(redis_url, "w1", [QUEUE])
    (message,) = taker.take()
    taker.close()

    # When
    getattr(message, settle)()

    # Then it is recovered with whatever else this worker holds, when its lease ends
    assert redis.hexists(keys.unacked("w1"), "gw-1")


def test_a_worker_that_stops_gives_back_what_it_has_not_finished(redis_url: str, redis: Redis) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    redis.lpush(QUEUE, _message("gw-2"))
    taker = Taker(redis_url, "w1", [QUEUE])
    taker.take()

    # When
    FLOW.restore_on_close = True
    taker.close()

    # Then
    tags = [json.loads(entry)["properties"]["delivery_tag"] for entry in redis.lrange(QUEUE, 0, -1)]
    assert sorted(tags) == ["gw-1", "gw-2"]
    assert redis.hlen(keys.unacked("w1")) == 0


def test_a_message_that_comes_while_the_worker_stops_goes_back_to_its_queue(redis_url: str, redis: Redis) -> None:
    # Given a consumer whose pop waits at the server
    taker = Taker(redis_url, "w1", [QUEUE])
    assert taker.take_what_there_is() == []

    # When a message answers it, and nobody looks before the connection is closed
    redis.lpush(QUEUE, _message("gw-1"))
    FLOW.restore_on_close = True
    taker.close()

    # Then
    tags = [json.loads(entry)["properties"]["delivery_tag"] for entry in redis.lrange(QUEUE, 0, -1)]
    assert tags == ["gw-1"]
    assert redis.hlen(keys.unacked("w1")) == 0


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_a_consumer_outlives_a_restart_of_redis_with_messages_in_hand(own_valkey: ValkeyServer, crash: bool) -> None:
    # Given a worker that holds a message
    with Redis.from_url(own_valkey.url()) as redis:
        redis.lpush(QUEUE, _message("gw-held"))
    taker = Taker(own_valkey.url(), "w1", [QUEUE])
    taker.take()

    # When Redis goes and comes back; then Celery collects the broken connection and opens a new one
    own_valkey.restart(crash=crash)
    with pytest.raises(taker.connection.connection_errors):
        taker.take()
    taker.drop()
    with Redis.from_url(own_valkey.url()) as redis, Taker(own_valkey.url(), "w1", [QUEUE]) as again:
        redis.lpush(QUEUE, _message("gw-new"))

        # Then it goes on, what it held is still held, and nothing was put back behind its back
        assert [message.delivery_tag for message in again.take()] == ["gw-new"]
        assert set(redis.hkeys(keys.unacked("w1"))) == {b"gw-held", b"gw-new"}
        assert redis.llen(QUEUE) == 0


def _of_gigabytes() -> bytes:
    """A small message that kombu would unpack."""
    message = json.loads(_message("gw-packed"))
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    message["body"] = base64.b64encode(packed).decode()
    message["headers"]["compression"] = "application/x-gzip"
    return json.dumps(message).encode()


def _large() -> bytes:
    message = json.loads(_message("gw-large"))
    message["padding"] = "a" * MESSAGE_LIMIT_BYTES
    return json.dumps(message).encode()


@pytest.mark.parametrize(
    ("hostile", "most_bytes", "reason"),
    [(_of_gigabytes, 50_000_000, "Compressed"), (_large, 3 * MESSAGE_LIMIT_BYTES, "TooLarge")],
)
def test_a_message_of_more_bytes_than_ours_have_is_dropped_before_it_is_unpacked(
    redis_url: str, redis: Redis, hostile: Callable[[], bytes], most_bytes: int, reason: str
) -> None:
    # Given one, and one of ours behind it
    redis.lpush(QUEUE, hostile())
    redis.lpush(QUEUE, _message("gw-ours"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    # When
    with Taker(redis_url, "w1", [QUEUE]) as taker, capture_logs() as logs:
        tags = [message.delivery_tag for message in taker.take()]

    # Then
    assert tags == ["gw-ours"]
    assert [(entry["event"], entry["error"]) for entry in logs] == [("message_unreadable", reason)]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < most_bytes


def _of_nowhere() -> bytes:
    message = json.loads(_message("gw-nowhere"))
    message["properties"]["delivery_info"]["routing_key"] = None
    return json.dumps(message).encode()


@pytest.mark.parametrize(
    "broken",
    [
        _of_nowhere(),
        b"[" * 100_000,
        b'{"__type__": "anything", "__value__": 1}',
        b'{"__type__": [], "__value__": 1}',
        b"[]",
    ],
)
def test_what_json_or_kombu_cannot_read_ends_no_consumer(redis_url: str, redis: Redis, broken: bytes) -> None:
    redis.lpush(QUEUE, broken)
    redis.lpush(QUEUE, _message("gw-ours"))

    with Taker(redis_url, "w1", [QUEUE]) as taker:
        assert [message.delivery_tag for message in taker.take()] == ["gw-ours"]


def test_an_error_of_who_takes_a_message_is_not_called_the_messages(redis_url: str, redis: Redis) -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError

    redis.lpush(QUEUE, _message("gw-1"))
    with Taker(redis_url, "w1", [QUEUE]) as taker:
        taker.consumer.on_message = fail

        with pytest.raises(ZeroDivisionError):
            taker.take()
