"""Suspects: tasks that a worker died with, run request by request, so that the one that kills workers is found.

When a worker process dies, one of the tasks that it had taken may be why: something in it that makes the tokenizer crash, or
an image that fills the memory when it is read. `recover.lua` marks them all. Whoever takes them runs one request at a time,
from before it is tokenised until its reply is delivered, and says in Redis which: the next death is then that one's fault,
and not its neighbours'. A request that a worker has died of runs last in its task: all others in it are answered before it
may kill another. Fresh work goes on beside them as usual.
"""

import queue
import threading
from collections.abc import Callable, Sequence

from redis import Redis

from shared import keys
from shared.logging import get_logger
from workers.persistence import until_taken
from workers.work import TaskWork

log = get_logger("millrace.suspects")

#: How long Redis remembers which one runs, in seconds: longer than any task is waited for.
_RUNNING_TTL_S = 3600


class Suspects:
    """A thread that hands the requests of suspects on, the next when the one before has been delivered."""

    def __init__(self, redis: Redis, worker: str, begin: Callable[[TaskWork, int], None]) -> None:
        """Build it.

        Args:
            redis: A client of its own.
            worker: This worker's id.
            begin: Starts the request of a task that is at this position.
        """
        self._redis = redis
        self._key = keys.running(worker)
        self._begin = begin
        self._waiting: queue.SimpleQueue[tuple[TaskWork, int | None] | None] = queue.SimpleQueue()
        self._running: TaskWork | None = None
        self._delivered = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="suspects", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, task: TaskWork, suspected: int | None = None) -> None:
        """Run a task when those before it have been delivered; never blocks.

        Args:
            task: The task.
            suspected: Position of the request that runs last: a worker has died while it ran.
        """
        self._waiting.put((task, suspected))

    def delivered(self, tasks: Sequence[TaskWork]) -> None:
        """Learn of which tasks, suspects or not, something has been delivered: of a suspect, the request that ran."""
        if self._running is not None and self._running in tasks:
            self._running = None
            self._delivered.set()

    def stop(self) -> None:
        """End the thread. What waits stays unacknowledged."""
        self._stopping.set()
        self._waiting.put(None)
        self._delivered.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            task, suspected = waiting
            for position in sorted(range(len(task.requests)), key=lambda position: position == suspected):
                if not self._tell(f"{task.delivery_tag} {position}"):
                    return
                self._delivered.clear()
                if self._stopping.is_set():
                    return
                self._running = task
                self._begin(task, position)
                self._delivered.wait()

    def _tell(self, running: str) -> bool:
        """Write down which one runs, before it can do any harm; False where the worker stops first.

        The key is left when it has been delivered: what is acknowledged is not recovered, whoever names it.
        """

        def write() -> None:
            self._redis.set(self._key, running, ex=_RUNNING_TTL_S)

        def tell(error: str) -> None:
            log.warning("suspect_delayed", error=error)

        return not self._stopping.is_set() and until_taken(write, self._stopping, tell)
