"""The sliding window of a rate limit: what is left of it, and how long to wait. Pure.

Of the window before the current one that part counts that a window of full length, ending now, would still cover
(`limits`' sliding window counter). So no moment lets twice the limit through, at the cost of two counters a limit.
"""

from dataclasses import dataclass
from math import ceil, floor


@dataclass(frozen=True, slots=True)
class Window:
    """A limit and what has been taken of it."""

    limit: int
    length_s: float
    #: What the window before has, and how much longer it counts, in seconds.
    previous: int
    previous_ttl_s: float
    #: The same of the current one, which counts for one length more when it is over.
    current: int
    current_ttl_s: float

    @property
    def taken(self) -> int:
        """What counts now."""
        return floor(self.previous * self.previous_ttl_s / self.length_s) + self.current

    @property
    def remaining(self) -> int:
        """What may be taken now."""
        return max(0, self.limit - self.taken)

    @property
    def reset_s(self) -> int:
        """Seconds until nothing counts any more, if nothing more is taken."""
        return ceil(self.current_ttl_s if self.current else self.previous_ttl_s if self.previous else 0)

    def wait_s(self, cost: int) -> float:
        """Seconds until so much may be taken, if nobody else takes any of it.

        Args:
            cost: At most the limit.
        """
        room = self.limit - cost - self.current
        if room >= 0:
            return max(0.0, self.previous_ttl_s - self._ttl_that_leaves(room, self.previous))
        # Not before the current window has become the previous one.
        until_next_s = max(0.0, self.current_ttl_s - self.length_s)
        return until_next_s + self.length_s - self._ttl_that_leaves(self.limit - cost, self.current)

    def _ttl_that_leaves(self, room: int, previous: int) -> float:
        """How much longer a window before may count, at most, of which so much may count."""
        return min(self.length_s, self.length_s * (room + 1) / previous) if previous > 0 else self.length_s
