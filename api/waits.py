"""How long requests wait, by model and lane: those that are not answered yet, and those that were answered of late.

Times are counted in buckets, each a fifth longer than the one before, so that what several processes have counted can be
added up. A percentile is at most a tenth beside the truth.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from shared.queues import Lane

#: How far back "of late" reaches, and the steps in which it forgets, in seconds.
WINDOW_S, _STEP_S = 30.0, 1.0
_STEPS = round(WINDOW_S / _STEP_S)
#: The end of the first bucket in seconds, and how much longer each bucket is than the one before.
_FIRST_S, _FACTOR = 0.001, 1.2

_Key = tuple[str, Lane]
#: What a process says of one of its lanes: model, lane, requests that wait, the oldest one's age in seconds, buckets.
LaneSaid = tuple[str, Lane, int, float, Counter[int]]


@dataclass(frozen=True, slots=True)
class LaneWaits:
    """What is known of a lane."""

    #: Requests that are not answered yet.
    waiting: int
    #: Age of the oldest of them in seconds; 0 without any.
    oldest_s: float
    #: Requests a second that were answered of late.
    answered_per_s: float
    #: How long those took, in seconds; None without any.
    p50_s: float | None
    p95_s: float | None


@dataclass(slots=True)
class _Answered:
    """Times of the requests that were answered of late, in buckets, by step."""

    steps: dict[int, Counter[int]] = field(default_factory=dict)

    def add(self, now: float, seconds: float) -> None:
        step = int(now / _STEP_S)
        if step not in self.steps:
            self.steps = {old: counted for old, counted in self.steps.items() if old > step - _STEPS}
            self.steps[step] = Counter()
        self.steps[step][_bucket(seconds)] += 1

    def of_late(self, now: float) -> Counter[int]:
        first, found = int(now / _STEP_S) - _STEPS + 1, Counter[int]()
        for step, counted in self.steps.items():
            if step >= first:
                found.update(counted)
        return found


class Waits:
    """Of this process, and what the others have said of theirs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tickets = count()
        #: When the requests that are not answered yet have come, oldest first.
        self._open: dict[_Key, dict[int, float]] = defaultdict(dict)
        self._answered: dict[_Key, _Answered] = defaultdict(_Answered)
        #: What each other process has said: waiting, the oldest one's age, buckets.
        self._elsewhere: dict[_Key, list[tuple[int, float, Counter[int]]]] = {}

    def begin(self, model: str, lane: Lane) -> int:
        """A request has come; returns its ticket."""
        ticket = next(self._tickets)
        self._open[model, lane][ticket] = self._clock()
        return ticket

    def end(self, model: str, lane: Lane, ticket: int, *, counts: bool) -> None:
        """The request of a ticket waits no more.

        Args:
            model: As when it began.
            lane: As when it began.
            ticket: What `begin` returned.
            counts: Whether its time says something of the service: not if its sender has left.
        """
        began = self._open[model, lane].pop(ticket)
        if counts:
            now = self._clock()
            self._answered[model, lane].add(now, now - began)

    def of(self, model: str, lane: Lane) -> LaneWaits:
        """What is known of a lane."""
        now = self._clock()
        elsewhere = self._elsewhere.get((model, lane), [])
        times = self._of_late((model, lane), now)
        for _, _, counted in elsewhere:
            times.update(counted)
        return LaneWaits(
            waiting=len(self._open.get((model, lane), ())) + sum(waiting for waiting, _, _ in elsewhere),
            oldest_s=max([self._oldest_s((model, lane), now), *(oldest_s for _, oldest_s, _ in elsewhere)]),
            answered_per_s=times.total() / WINDOW_S,
            p50_s=_percentile(times, 0.50),
            p95_s=_percentile(times, 0.95),
        )

    # How processes tell each other: a part of what they say of the backlog, see `api.backlog`.

    def mine(self) -> list[Any]:
        """What this process says of each lane in which something has happened of late."""
        now = self._clock()
        said = []
        for model, lane in {*self._open, *self._answered}:
            waiting, times = len(self._open.get((model, lane), ())), self._of_late((model, lane), now)
            if waiting or times:
                oldest_s = round(self._oldest_s((model, lane), now), 3)
                said.append([model, str(lane), waiting, oldest_s, sorted(times.items())])
        return said

    def hear(self, said: Iterable[LaneSaid]) -> None:
        """Take in what all other processes have said."""
        self._elsewhere = defaultdict(list)
        for model, lane, waiting, oldest_s, buckets in said:
            self._elsewhere[model, lane].append((waiting, oldest_s, buckets))

    def oldest_here_s(self, model: str, lane: Lane) -> float:
        """Age of the oldest request of this process in seconds; called on any thread."""
        return self._oldest_s((model, lane), self._clock())

    def _oldest_s(self, key: _Key, now: float) -> float:
        # A copy in one step: the loop that adds and removes may be on another thread.
        began = list(self._open.get(key, {}).values())
        return now - began[0] if began else 0.0

    def _of_late(self, key: _Key, now: float) -> Counter[int]:
        answered = self._answered.get(key)
        return Counter() if answered is None else answered.of_late(now)


def lanes_of(said: Iterable[Sequence[Any]]) -> list[LaneSaid]:
    """What `Waits.mine` of another process said, without lanes and fields that only a later version knows."""
    return [
        (model, Lane(lane), waiting, oldest_s, Counter(dict(buckets)))
        for model, lane, waiting, oldest_s, buckets, *_ in said
        if lane in list(Lane)
    ]


def _bucket(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, _FIRST_S) / _FIRST_S, _FACTOR)))


def _percentile(times: Counter[int], share: float) -> float | None:
    """The middle of the bucket in which the value lies."""
    rank, passed = share * times.total(), 0
    for bucket, number in sorted(times.items()):
        passed += number
        if passed >= rank:
            return float(_FIRST_S * _FACTOR ** (bucket - 0.5))
    return None
