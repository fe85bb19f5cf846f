"""Room for what is large: so many bytes at a time, whoever sends them.

Bodies and answers of megabytes are what fills a gateway's memory: 25 unfinished bodies of 62 MB took 1.7 GB, and 40 answers
that nobody read 0.4 GB. What is small is never counted, and never waits here.
"""

import asyncio
from collections import deque

from shared.errors import Overloaded

#: When to come back where there was no room, in seconds.
_AGAIN_AFTER_S = 5.0


class Room:
    """A number of bytes that is shared out, first come, first served. What is larger than all of it is let in alone."""

    def __init__(self, size: int, what: str) -> None:
        """Build it.

        Args:
            size: In bytes.
            what: That it is for, as a refusal calls it.
        """
        self._size = size
        self._what = what
        self.taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int, patience_s: float) -> int:
        """Wait until there is room, and take it.

        Args:
            size: Bytes that are wanted.
            patience_s: How long to wait, in seconds.

        Returns:
            What is to be given back.

        Raises:
            Overloaded: There was none for so long.
        """
        size = min(size, self._size)
        if not self._waiting and self.taken + size <= self._size:
            self.taken += size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(patience_s):
                await turn
        except BaseException as err:
            if turn.done() and not turn.cancelled():
                self.give_back(size)  # it had come just then
            else:
                turn.cancel()
                self._let_in()
            if isinstance(err, TimeoutError):
                raise Overloaded(
                    f"this gateway holds as many bytes of {self._what} as it may, {self._size}, and there was no room for "
                    f"{size} more within {patience_s:.0f} s",
                    retry_after_s=_AGAIN_AFTER_S,
                ) from None
            raise
        return size

    def give_back(self, size: int) -> None:
        """Let others have what was taken."""
        self.taken -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self.taken + size > self._size:
                    return
                self.taken += size
                turn.set_result(None)
            self._waiting.popleft()
