"""When those who were refused should come back: one behind the other, as fast as what they ask for can be done.

Told the same time, all would come back together, and nine of ten be refused again. So each one that is refused is given the
time behind the one before; whoever comes unasked takes its place, which those who do not come back leave. Once there is room
again nobody has to wait for times that were given before.
"""

import time
from collections.abc import Callable, Hashable

#: Most that a client is told to stay away, and most that others are told to come behind it, in seconds: it may not come.
LONGEST_S, _LONGEST_TURN_S = 60.0, 5.0


class Comebacks:
    """The times that have been given, by queue."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: When the next one may come who is refused now.
        self._next: dict[Hashable, float] = {}

    def wait_s(self, queue: Hashable, least_s: float, own_s: float) -> float:
        """How long somebody should stay away, in seconds, at most `LONGEST_S`.

        Args:
            queue: That it was refused at.
            least_s: Until there would be room if nobody else came back, in seconds.
            own_s: What it asks for takes, in seconds.
        """
        now = self._clock()
        turn = min(max(self._next.get(queue, 0.0), now + least_s), now + LONGEST_S)
        self._next[queue] = turn + min(own_s, _LONGEST_TURN_S)
        return turn - now

    def forget(self, queue: Hashable) -> None:
        """There is room again."""
        self._next.pop(queue, None)
