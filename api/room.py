"""Room for what is large: so many bytes at a time, whoever sends them.

Bodies and answers of megabytes are what fills a gateway's memory: 25 unfinished bodies of 62 MB took 1.7 GB, and 40 answers
that nobody read 0.4 GB. What is small is never counted, and never waits here. Each lane has its half, so that bulk work,
which may be waited for long, keeps no search out.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping

from shared.errors import Overloaded
from shared.metrics import Metrics
from shared.queues import Lane

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

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it."""
        return any(not turn.done() for _, turn in self._waiting)

    def settle(self, taken: int, size: int) -> int:
        """Have what was taken be what it really is, which may be more than there is room for.

        Args:
            taken: What is to be given back by now.
            size: Bytes that it really takes.

        Returns:
            What is to be given back from now on.
        """
        self.taken += size - taken
        self._let_in()
        return size

    def give_back(self, size: int) -> None:
        """Let others have what was taken."""
        self.settle(size, 0)

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if self.taken + size > self._size:
                    return
                self.taken += size
                turn.set_result(None)
            self._waiting.popleft()


class Guest:
    """A request, and the room that its body and its answer take."""

    def __init__(self, bodies: Room, answers: Room) -> None:
        self._bodies, self._answers = bodies, answers
        self._body = self._answer = 0
        #: How long it has waited for room, in seconds.
        self.waited_s = 0.0

    @property
    def holds_up_others(self) -> bool:
        """Whether somebody waits for the room that its body takes."""
        return bool(self._body) and self._bodies.is_wanted

    async def bring_body(self, size: int, patience_s: float) -> None:
        """Wait until there is room for the body.

        Args:
            size: As far as it is known, in bytes.
            patience_s: How long to wait, in seconds.

        Raises:
            Overloaded: There was none.
        """
        began = time.monotonic()
        self._body = await self._bodies.take(size, patience_s)
        self.waited_s += time.monotonic() - began

    def body_is(self, size: int) -> None:
        """The body has come, and has so many bytes."""
        if self._body:
            self._body = self._bodies.settle(self._body, size)

    async def expect_answer(self, size: int, patience_s: float) -> None:
        """Wait until there is room for the answer, as `bring_body` does."""
        self._answer = await self._answers.take(size, patience_s)

    def answer_is(self, size: int) -> None:
        """The answer is there, and has so many bytes."""
        self._answer = self._answers.settle(self._answer, size)

    def leave(self) -> None:
        """Nothing of it is kept any more."""
        self._bodies.give_back(self._body)
        self._answers.give_back(self._answer)
        self._body = self._answer = 0


class Rooms:
    """All the room that a gateway has."""

    def __init__(self, metrics: Metrics, *, bodies: int, answers: int) -> None:
        """Build it.

        Args:
            metrics: Tells what is taken.
            bodies: Bytes for large bodies.
            answers: Bytes for large answers.
        """
        self._bodies = _halves(bodies, "large bodies")
        self._answers = _halves(answers, "large answers")
        metrics.gauge("millrace_large_bodies_bytes").set_function(lambda: _taken(self._bodies))
        metrics.gauge("millrace_large_answers_bytes").set_function(lambda: _taken(self._answers))

    def guest(self, lane: Lane) -> Guest:
        """Somebody who has taken none of it yet."""
        return Guest(self._bodies[lane], self._answers[lane])


def _halves(size: int, what: str) -> Mapping[Lane, Room]:
    return {lane: Room(size // len(Lane), f"{what} in the {lane} lane") for lane in Lane}


def _taken(rooms: Mapping[Lane, Room]) -> int:
    return sum(room.taken for room in rooms.values())
