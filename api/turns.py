"""Whose turn it is: requests that wait for the same workers go round, one part of each at a time.

A request of two thousand texts is cut into parts of about one batch each; one of a single text that comes behind it waits
for one of them, not for all.
"""

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Part(Protocol):
    """What has to be known of a part."""

    @property
    def tokens(self) -> int:
        """What it costs, roughly."""
        ...

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        ...


PartT = TypeVar("PartT", bound=Part)


class Turns(Generic[PartT]):
    """The parts that wait, request by request. A request's parts keep their order."""

    def __init__(self) -> None:
        self._requests: deque[deque[PartT]] = deque()
        #: What waits, in tokens; with what has been given up and has not had its turn.
        self.tokens = 0

    def add(self, parts: Iterable[PartT]) -> None:
        """Let a request wait: its first part behind everybody else's next one."""
        waiting = deque(parts)
        self._requests.append(waiting)
        self.tokens += sum(part.tokens for part in waiting)

    def __bool__(self) -> bool:
        return bool(self._requests)

    def take(self, budget: int) -> list[PartT]:
        """Remove and return the next parts that fit the token budget together, at least one; those given up are dropped."""
        together: list[PartT] = []
        tokens = 0
        while self._requests:
            parts = self._requests[0]
            while parts and parts[0].is_given_up:
                self.tokens -= parts.popleft().tokens
            if not parts:
                self._requests.popleft()
                continue
            tokens += parts[0].tokens
            if together and tokens > budget:
                break
            together.append(parts.popleft())
            self.tokens -= together[-1].tokens
            self._requests.popleft()
            if parts:
                self._requests.append(parts)
        return together
