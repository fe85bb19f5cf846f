"""Lanes: where events wait for one receiver, as the network sees it, and how many of them may be under way.

All endpoints with one scheme, host and port share a lane: who is slow behind one URL is slow behind all that lead there.
A receiver is **new** until something was sent to it, **prompt** while its last attempt was answered in time, and **slow**
otherwise. New ones are tried with one event each, and together have at most half of a callback worker's threads; slow ones
together have at most a quarter. So a quarter is always left to those that answer, however many others there are and do not.
Sinks are the operator's own, few and known, and have no such bounds.
"""

from dataclasses import dataclass

import httpx

from shared.bulk.webhook_urls import DEFAULT_PORTS

_WEBHOOK, _SINK = "webhook-", "sink-"

#: How long an answer may take, in ms, until its receiver counts as slow.
PROMPT_MS = 5_000
#: How long a receiver's pace is remembered, in seconds; afterwards it is new.
PACE_TTL_S = 3_600
#: Parts of a callback worker's threads that all new, and all slow receivers may have.
_NEW_PART, _SLOW_PART = 1 / 2, 1 / 4


def webhook_lane(url: str) -> str:
    """The lane of a webhook's URL."""
    parsed = httpx.URL(url)
    return f"{_WEBHOOK}{parsed.scheme}://{parsed.host}:{parsed.port or DEFAULT_PORTS.get(parsed.scheme, 0)}"


def sink_lane(name: str) -> str:
    """The lane of an operator's sink."""
    return f"{_SINK}{name}"


def is_bounded(lane: str) -> bool:
    """Whether its receiver shares the bounds of new and slow ones."""
    return lane.startswith(_WEBHOOK)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many events may be under way."""

    #: To one receiver.
    each: int
    #: To all new ones together, and to all slow ones.
    new: int
    slow: int

    @classmethod
    def of(cls, *, threads: int, concurrency: int) -> "Bounds":
        """The bounds.

        Args:
            threads: Of one callback worker.
            concurrency: Events that are under way to one receiver at a time.
        """
        return cls(concurrency, max(1, int(threads * _NEW_PART)), max(1, int(threads * _SLOW_PART)))
