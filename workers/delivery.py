"""Delivery: the results of finished tasks, stored and acknowledged in one round trip."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from shared import dead_letters, keys
from shared.celery_message import encode_progress, encode_result
from shared.dead_letters import DeadLetter
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.results import Reply
from workers.persistence import until_taken

log = get_logger("millrace.delivery")


@dataclass(frozen=True, slots=True)
class Finished:
    """A task that can be answered."""

    task_id: str
    delivery_tag: str
    replies: list[Reply]
    #: Those of its inputs that an engine process died of.
    letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """A task of which some requests can be answered, and the rest may take long."""

    task_id: str
    #: By position: all that are done.
    replies: dict[int, Reply]


class Delivery:
    """Writes results. Its client outlives the consumer's connection."""

    def __init__(self, redis: Redis, worker: str, metrics: Metrics, *, result_ttl_s: int) -> None:
        self._redis = redis
        #: This worker's id.
        self.worker = worker
        self._duration = metrics.histogram("millrace_delivery_duration_seconds")
        self._unacked = keys.unacked(worker)
        self._result_ttl_s = result_ttl_s
        #: Ends the wait for a Redis that does not come back.
        self.give_up = threading.Event()

    def deliver(self, finished: Sequence[Finished], advanced: Sequence[Advanced] = ()) -> bool:
        """Store, publish, and only then acknowledge, in this order within one pipeline; retried until it worked.

        What has only advanced is stored and published too, and not acknowledged. Dead letters are kept with the results:
        after a lost connection perhaps twice.

        Returns:
            False if it was given up: the messages then stay unacknowledged and are recovered.
        """
        entries = [(keys.result(task.task_id), encode_result(task.task_id, task.replies)) for task in finished]
        entries += [(keys.result(task.task_id), encode_progress(task.task_id, task.replies)) for task in advanced]
        tags = [task.delivery_tag for task in finished]
        letters = [letter for task in finished for letter in task.letters]
        started = time.perf_counter()

        def write() -> None:
            # A fresh pipeline each time: redis-py empties a used one, and a retry would store nothing.
            with self._redis.pipeline(transaction=False) as pipe:
                for key, value in entries:
                    pipe.set(key, value, ex=self._result_ttl_s)
                    pipe.publish(key, value)
                dead_letters.write(pipe, letters)
                if tags:
                    pipe.hdel(self._unacked, *tags)
                pipe.execute()

        def tell(error: str) -> None:
            log.warning("delivery_delayed", tasks=len(finished), error=error)

        taken = until_taken(write, self.give_up, tell)
        if taken:
            self._duration.observe(time.perf_counter() - started)
        return taken
