"""Admission: what cannot be answered before its deadline is refused at once, and told when to come back.

How long a request will take is estimated from what is ahead of it and from the speed that the model's workers measure:

    wait = (tokens ahead + own tokens) / tokens per second of all workers

Requests take turns, so a large one has only a part of itself ahead of a small one (`api.backlog`).
Both are rough: tokens are counted in characters, and a worker's speed is that of full batches. So the estimate is
corrected by how long requests have really taken, of late, over what was estimated for them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from api.backlog import Backlog
from api.fleet import Fleet
from shared import deadline as deadlines
from shared.errors import DeadlineExceeded, Overloaded
from shared.jobs import Request
from shared.queues import Lane

#: Weight of the newest request in the correction, and its bounds.
_WEIGHT = 0.05
_LEAST, _MOST = 0.25, 8.0
#: Estimates below this say nothing about the speed under load: fixed costs are most of what such requests take. In seconds.
_TELLING_S = 0.25
#: Share of the time until its deadline that a request's estimate may take; speeds vary, and what waits in vain is lost.
SHARE = 0.8
#: Most that a client is told to stay away, in seconds.
_LONGEST_RETRY_S = 60.0


def wait_s(ahead_tokens: float, own_tokens: float, tokens_per_s: float, correction: float) -> float:
    """Estimated seconds until a request is answered; 0 while no speed is known."""
    return correction * (ahead_tokens + own_tokens) / tokens_per_s if tokens_per_s > 0 else 0.0


def corrected(correction: float, estimate_s: float, took_s: float) -> float:
    """The correction after a request that took so long, for which so much was estimated with the present one."""
    if estimate_s < _TELLING_S:
        return correction
    newest = correction * took_s / estimate_s
    return min(_MOST, max(_LEAST, correction + _WEIGHT * (newest - correction)))


class Admission:
    """Decides which requests may wait, and counts those that do."""

    def __init__(self, fleet: Fleet, backlog: Backlog, *, max_pending_items: int) -> None:
        """Build it.

        Args:
            fleet: Who knows the workers' speed.
            backlog: What waits, here and in other processes.
            max_pending_items: Inputs that may wait here, whatever their size.
        """
        self._fleet = fleet
        self._backlog = backlog
        self._max_pending_items = max_pending_items
        self._corrections: dict[str, float] = {}
        self.pending_requests = 0
        self.pending_items = 0

    @contextmanager
    def admitted(self, model: str, lane: Lane, request: Request, tokens: int) -> Iterator[None]:
        """While the block runs, the request waits.

        Args:
            model: Own name of the model that it is for.
            lane: Its lane.
            request: What is asked.
            tokens: What it will cost, roughly.

        Raises:
            Overloaded: It may not: too much waits already.
        """
        estimate_s = self._admit(model, lane, request, tokens)
        started = time.monotonic()
        self.pending_requests += 1
        self.pending_items += request.items
        self._backlog.enter(model, lane, items=request.items, tokens=tokens)
        try:
            yield
        except DeadlineExceeded:
            self._learn(model, estimate_s, time.monotonic() - started)  # it would have taken at least so long
            raise
        else:
            self._learn(model, estimate_s, time.monotonic() - started)
        finally:
            self.pending_requests -= 1
            self.pending_items -= request.items
            self._backlog.leave(model, lane, items=request.items, tokens=tokens)

    def backlog_s(self, model: str, lane: Lane) -> float:
        """Seconds of work that wait for a model's workers in a lane."""
        return self._estimate_s(model, self._backlog.total(model, lane), 0)

    def _admit(self, model: str, lane: Lane, request: Request, tokens: int) -> float:
        """The estimated wait of a request that may wait."""
        if self.pending_items + request.items > self._max_pending_items:
            raise Overloaded(
                f"{self.pending_items} inputs are waiting already and {self._max_pending_items} is the most",
                retry_after_s=max(1.0, min(_LONGEST_RETRY_S, self.backlog_s(model, lane))),
            )
        ahead = self._backlog.ahead(model, lane, max(tokens, self._fleet.batch_tokens(model)))
        estimate_s = self._estimate_s(model, ahead, tokens)
        remaining_s = max(0.0, deadlines.remaining_s(request.deadline))
        # With nothing ahead of it, a request that looks too large harms nobody by trying.
        if ahead and estimate_s > SHARE * remaining_s:
            excess_s = min(_LONGEST_RETRY_S, max(1.0, estimate_s - SHARE * remaining_s))
            raise Overloaded(
                f"an answer would take about {estimate_s:.0f} s, with what {model} has to do already, and is wanted within "
                f"{remaining_s:.1f} s; try again in {excess_s:.0f} s, or allow more time with x-request-timeout",
                retry_after_s=excess_s,
            )
        return estimate_s

    def _learn(self, model: str, estimate_s: float, took_s: float) -> None:
        self._corrections[model] = corrected(self._corrections.get(model, 1.0), estimate_s, took_s)

    def _estimate_s(self, model: str, ahead: float, own: int) -> float:
        return wait_s(ahead, own, self._fleet.tokens_per_s(model), self._corrections.get(model, 1.0))
