"""A task that is nowhere to be found is published again; what workers have died of is not let loose again."""

import asyncio
import time
from hashlib import sha256

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from api.replies import Outcome, PendingTask, Replies
from shared import keys, leases
from shared.celery_message import as_suspect, encode_task
from shared.dead_letters import DeadLetter
from shared.errors import WorkerLost
from shared.jobs import EmbedRequest, Task
from shared.metrics import Metrics, Owner
from shared.queues import Lane, Operation, queue_name
from tests.helpers.waiting import wait_until

MODEL = "org/model"
QUEUE = queue_name(MODEL, Lane.INTERACTIVE)
REQUEST = EmbedRequest(request_id="r", deadline=2e9, texts=["a"])
TASK = Task(model=MODEL, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=[REQUEST])
MESSAGE = encode_task("gw-1", TASK, origin="gw")


def _swept(redis_url: str, redis: Redis) -> list[Outcome | None]:
    """The outcomes of a task that was lost, when its gateway has looked for it often enough."""
    outcomes: list[Outcome | None] = []

    async def test() -> None:
        async with AsyncRedis.from_url(redis_url) as client:
            replies = Replies(client, client, Metrics(Owner.GATEWAY), "gw")
            pending = PendingTask(
                task_id="gw-1",
                model=MODEL,
                lane=Lane.INTERACTIVE,
                message=MESSAGE,
                deadline=time.time() + 60,
                on_outcome=outcomes.append,
                on_progress=lambda _: None,
                published_at=time.monotonic(),
            )
            replies.publish(pending)
            # Taken by somebody who has not said so.
            await asyncio.to_thread(wait_until, lambda: redis.rpop(QUEUE) is not None, what="the task")
            sweeping = asyncio.create_task(replies.sweep())
            await asyncio.to_thread(wait_until, lambda: redis.llen(QUEUE) or outcomes, what="the gateway to act")
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    asyncio.run(test())
    return outcomes


def test_a_lost_task_is_published_again_as_it_was(redis_url: str, redis: Redis) -> None:
    assert _swept(redis_url, redis) == []
    assert redis.lrange(QUEUE, 0, -1) == [MESSAGE]


def test_one_that_a_worker_has_died_with_is_a_suspect_again(redis_url: str, redis: Redis) -> None:
    redis.set(keys.deliveries("gw-1"), 1)

    assert _swept(redis_url, redis) == []
    assert redis.lrange(QUEUE, 0, -1) == [as_suspect(MESSAGE)]


def test_one_that_is_given_up_and_was_never_answered_kills_no_fourth_worker(redis_url: str, redis: Redis) -> None:
    # Given that whoever recovered it from its third worker died in that moment
    redis.set(keys.deliveries("gw-1"), leases.MAX_DELIVERIES)

    # When
    (outcome,) = _swept(redis_url, redis)

    # Then
    assert isinstance(outcome, WorkerLost)
    assert redis.llen(QUEUE) == 0
    letter = DeadLetter.model_validate_json(redis.lindex(keys.DEAD_LETTERS, 0))
    assert (letter.task, letter.deaths) == ("gw-1", leases.MAX_DELIVERIES)
    assert [request.sha256 for request in letter.requests] == [[sha256(b"a").hexdigest()]]
    assert redis.get(keys.DEAD_LETTERS_EVER) == b"1"
