"""Our hand-built messages and results are Celery's own: Celery and kombu write the same, and read what we wrote."""

import json
import threading
from datetime import datetime
from typing import Any

import msgpack
import pytest
from celery import Celery
from celery.result import AsyncResult
from celery.worker.request import Request
from redis import Redis

from shared import keys
from shared.celery_message import decode_result, encode_failure, encode_result, encode_task
from shared.errors import DeadlineExceeded, InferenceFailed, Unavailable, WorkerLost
from shared.jobs import Task
from shared.queues import queue_name, task_name
from shared.results import Output, replies_from_wire
from tests.helpers.consumers import Taker
from tests.helpers.waiting import wait_until

TASK_ID = "gw1234-7"


@pytest.fixture
def queue(embed_task: Task) -> str:
    return queue_name(embed_task.model, embed_task.lane)


def _sent(redis: Redis, queue: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(redis.rpop(queue))
    return message


def test_the_headers_are_those_that_celery_itself_would_send(celery_app: Celery, embed_task: Task) -> None:
    # Given our message
    ours = json.loads(encode_task(TASK_ID, embed_task, origin="gw1234"))

    # When Celery builds one for equal inputs
    theirs = celery_app.amqp.as_task_v2(
        TASK_ID,
        task_name(embed_task.operation),
        args=[],
        kwargs=embed_task.to_wire(),
        expires=datetime.fromisoformat(ours["headers"]["expires"]),
        origin="gw1234",
        argsrepr=embed_task.summary(),
        kwargsrepr="{}",
    )

    # Then
    assert ours["headers"] == theirs.headers
    assert {name: ours["properties"][name] for name in theirs.properties} == theirs.properties


def test_the_whole_message_is_what_celery_itself_puts_on_the_queue(
    celery_app: Celery, redis: Redis, embed_task: Task, queue: str
) -> None:
    # Given our message
    redis.lpush(queue, encode_task(TASK_ID, embed_task, origin="gw1234"))
    ours = _sent(redis, queue)

    # When Celery sends one
    celery_app.send_task(
        task_name(embed_task.operation),
        kwargs=embed_task.to_wire(),
        task_id=TASK_ID,
        queue=queue,
        expires=datetime.fromisoformat(ours["headers"]["expires"]),
        argsrepr=embed_task.summary(),
        kwargsrepr="{}",
        ignore_result=False,
    )
    theirs = _sent(redis, queue)

    # Then all but what names a sender is equal: who it was, where Celery's RPC would answer, and the delivery tag
    for message in (ours, theirs):
        message["headers"].pop("origin")
        message["properties"].pop("reply_to")
        message["properties"].pop("delivery_tag")
    # and what only other brokers read: `send_task` repeats its options among AMQP's properties.
    for name in ("argsrepr", "kwargsrepr", "expiration"):
        theirs["properties"].pop(name)
    assert ours == theirs


def test_kombu_decodes_our_message_into_the_task(redis_url: str, redis: Redis, embed_task: Task, queue: str) -> None:
    # Given
    redis.lpush(queue, encode_task(TASK_ID, embed_task, origin="gw1234"))

    # When
    with Taker(redis_url, "w1", [queue]) as taker:
        (message,) = taker.take()
        args, kwargs, embed = message.payload

        # Then
        assert args == []
        assert Task.from_wire(kwargs) == embed_task
        assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        assert message.delivery_tag == TASK_ID
        assert redis.hkeys(keys.unacked("w1")) == [TASK_ID.encode()]


def test_a_celery_worker_reads_name_arguments_and_expiry(
    celery_app: Celery, redis_url: str, redis: Redis, embed_task: Task, queue: str
) -> None:
    # Given
    redis.lpush(queue, encode_task(TASK_ID, embed_task, origin="gw1234"))
    name = task_name(embed_task.operation)

    def body(**_: Any) -> None:
        """Never called."""

    task = celery_app.task(body, name=name)

    # When
    with Taker(redis_url, "w1", [queue]) as taker:
        (message,) = taker.take()
        request = Request(message, app=celery_app, task=task, hostname="w1")

        # Then
        assert (request.id, request.name) == (TASK_ID, name)
        assert Task.from_wire(request.kwargs) == embed_task
        assert request.expires.timestamp() == 2.1e9
        assert request.argsrepr == embed_task.summary()


RESULT = [Output(shape=(2, 2), data=b"\0\0\x80?" * 4, tokens=9), InferenceFailed("no")]


def test_a_plain_celery_client_reads_a_result(celery_app: Celery, redis: Redis) -> None:
    # Given
    redis.set(keys.result(TASK_ID), encode_result(TASK_ID, list(RESULT)))

    # When
    result = AsyncResult(TASK_ID, app=celery_app)
    output, error = replies_from_wire(result.get(timeout=5))

    # Then
    assert output == RESULT[0]
    assert isinstance(error, InferenceFailed)
    assert result.state == "SUCCESS"
    assert result.date_done is not None


def test_a_plain_celery_client_that_waits_is_woken_by_the_publication(celery_app: Celery, redis: Redis) -> None:
    # Given a client that waits already
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(AsyncResult(TASK_ID, app=celery_app).get(timeout=10)))
    waiting.start()
    channel = keys.result(TASK_ID)
    wait_until(lambda: dict(redis.pubsub_numsub(channel))[channel.encode()] == 1, what="the client to subscribe")

    # When
    value = encode_result(TASK_ID, list(RESULT))
    redis.set(channel, value)
    redis.publish(channel, value)
    waiting.join(10)

    # Then
    assert replies_from_wire(got[0])[0] == RESULT[0]


def test_a_plain_celery_client_gets_our_error_raised(celery_app: Celery, redis: Redis) -> None:
    # Given a task that was given up
    redis.set(keys.result(TASK_ID), encode_failure(TASK_ID, WorkerLost("three workers died")))

    # When
    result = AsyncResult(TASK_ID, app=celery_app)

    # Then
    with pytest.raises(WorkerLost, match="three workers died"):
        result.get(timeout=5)
    assert result.state == "FAILURE"


def test_we_read_what_celerys_backend_writes_of_a_task_that_did_not_run(celery_app: Celery, redis: Redis) -> None:
    def outcome() -> Any:
        return decode_result(redis.get(keys.result(TASK_ID)))

    celery_app.backend.mark_as_started(TASK_ID, pid=1)
    assert outcome() is None

    celery_app.backend.mark_as_revoked(TASK_ID, reason="expired")
    assert isinstance(outcome(), DeadlineExceeded)
    redis.delete(keys.result(TASK_ID))  # Celery keeps the first final state

    celery_app.backend.mark_as_revoked(TASK_ID, reason="revoked")
    assert isinstance(outcome(), Unavailable)
    redis.delete(keys.result(TASK_ID))

    celery_app.backend.mark_as_failure(TASK_ID, RuntimeError("boom"))
    assert "RuntimeError" in outcome().message


def test_we_read_what_celerys_backend_writes_of_a_task_that_did_run(celery_app: Celery, redis: Redis) -> None:
    # Given the same result, written by Celery
    wire = msgpack.unpackb(encode_result(TASK_ID, list(RESULT)))["result"]

    # When
    celery_app.backend.mark_as_done(TASK_ID, wire)

    # Then
    replies = decode_result(redis.get(keys.result(TASK_ID)))
    assert isinstance(replies, list)
    assert replies[0] == RESULT[0]
