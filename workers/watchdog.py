"""The watchdog: does this worker move while work waits for it?

A process that lives can be deaf: a consumer that never polls again, a thread that waits for ever. What every such fault has
in common is that messages wait and nothing happens, so that is what is measured, whatever the cause. While Redis is away
or refuses, or the engine is being replaced, nothing can move, and nothing is said.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from shared.logging import get_logger

log = get_logger("millrace.watchdog")

#: How often it looks, in seconds.
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Activity:
    """What a worker is doing right now."""

    #: Changes whenever anything gets on.
    moves: int
    #: Tasks that it has taken and not answered.
    held: int
    #: Queues that it should be taking from.
    queues: tuple[str, ...]
    #: How long what it does may rightly take, in seconds.
    allowed_s: float = 0.0
    #: Whether it can get on at all.
    is_able: bool = True


class Standstill:
    """How long work has waited without anything moving. Pure: the clock is an argument."""

    def __init__(self) -> None:
        self._moves = -1
        self._since: float | None = None

    def observe(self, moves: int, *, is_waiting: bool, now: float) -> float:
        """Record a look.

        Args:
            moves: Changes whenever anything gets on.
            is_waiting: Whether there is anything to get on with.
            now: A monotonic clock, in seconds.

        Returns:
            The standstill so far, in seconds.
        """
        if not is_waiting:
            self._since = None
            return 0.0
        if moves != self._moves or self._since is None:
            self._since = now
        self._moves = moves
        return now - self._since


class Watchdog:
    """A thread that looks."""

    def __init__(self, redis: Redis, activity: Callable[[], Activity], *, wedged_after_s: float) -> None:
        """Build it.

        Args:
            redis: A client of its own.
            activity: What the worker is doing.
            wedged_after_s: A standstill beyond what is allowed that means that it will not go on by itself, in seconds.
        """
        self._redis = redis
        self._activity = activity
        self._wedged_after_s = wedged_after_s
        self._standstill = Standstill()
        self._looked_at = time.monotonic()
        self._trouble = ""
        #: How long work has waited without anything moving, in seconds.
        self.standstill_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def trouble(self) -> str:
        """Why this worker should be replaced; empty while it is well."""
        blind_s = time.monotonic() - self._looked_at
        if blind_s > self._wedged_after_s + LOOK_EVERY_S:
            return f"nobody has looked for {blind_s:.0f} s"
        return self._trouble

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._look()
            self._looked_at = time.monotonic()

    def _look(self) -> None:
        activity = self._activity()
        queued = self._queued(activity)
        is_waiting = activity.is_able and queued is not None and bool(queued or activity.held)
        self.standstill_s = self._standstill.observe(activity.moves, is_waiting=is_waiting, now=time.monotonic())
        if self.standstill_s <= self._wedged_after_s + activity.allowed_s:
            self._trouble = ""
            return
        if not self._trouble:
            log.error("worker_wedged", seconds=round(self.standstill_s), queued=queued, held=activity.held)
        self._trouble = (
            f"nothing has moved for {self.standstill_s:.0f} s, with {queued} messages queued and {activity.held} held"
        )

    def _queued(self, activity: Activity) -> int | None:
        """Messages that wait for this worker; None while nobody can tell."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for queue in activity.queues:
                    pipe.llen(queue)
                return sum(int(length) for length in pipe.execute())
        except (RedisError, OSError):
            return None  # the heartbeat says so
