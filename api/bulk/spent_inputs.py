"""Inputs of segments whose results are stored and counted: they go a little later than they could.

A failover to a Redis replica may forget the last writes, that a segment was counted among them. It is then run again, which
takes its input.
"""

import time
from collections import deque

from shared.bulk.store import Store

#: How long an input is kept after its segment was counted, in seconds: far longer than a replica may be behind.
KEPT_S = 30.0


class SpentInputs:
    """What is to be removed from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Monotonic time when each may go, and its path.
        self._waiting: deque[tuple[float, str]] = deque()

    def add(self, path: str) -> None:
        """Have an input removed when its time has come."""
        self._waiting.append((time.monotonic() + KEPT_S, path))

    def remove(self, *, early: bool = False) -> None:
        """Remove those whose time has come.

        Args:
            early: Remove the others as well: this process ends.

        Raises:
            MillraceError: The store cannot be used; the rest waits for the next time.
        """
        while self._waiting and (early or self._waiting[0][0] <= time.monotonic()):
            self._store.remove(self._waiting[0][1])
            self._waiting.popleft()
