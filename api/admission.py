"""Admission: what cannot be answered before its deadline is refused at once, and told when to come back.

How long a request will take is estimated from what is ahead of it and from the speed that the model's workers measure:

    wait = (tokens ahead + own tokens) / tokens per second of all workers

Requests take turns, so a large one has only a part of itself ahead of a small one (`api.backlog`).
Both are rough: tokens are counted in characters, and a worker's speed is that of full batches. So the estimate is
corrected by how long requests have really taken, of late, over what this formula says of them. (Over the corrected estimate,
it would answer to itself a whole queue later, and swing: at ten times the load a fifth of those let in were late.)
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from api.backlog import Backlog
from api.comebacks import Comebacks
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
#: Least that a client is told to stay away, in seconds.
_SHORTEST_RETRY_S = 1.0


def wait_s(ahead_tokens: float, own_tokens: float, tokens_per_s: float) -> float:
    """Seconds until a request is answered, by the formula; 0 while no speed is known."""
    return (ahead_tokens + own_tokens) / tokens_per_s if tokens_per_s > 0 else 0.0


def corrected(correction: float, formula_s: float, took_s: float) -> float:
    """The correction after a request that took so long, of which the formula said so much."""
    if formula_s * correction < _TELLING_S:
        return correction
    return min(_MOST, max(_LEAST, correction + _WEIGHT * (took_s / formula_s - correction)))


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
        self._comebacks = Comebacks()
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
        formula_s = self._admit(model, lane, request, tokens)
        started = time.monotonic()
        self.pending_requests += 1
        self.pending_items += request.items
        self._backlog.enter(model, lane, items=request.items, tokens=tokens)
        ticket, tells = self._backlog.waits.begin(model, lane), False
        try:
            yield
            tells = True
        except DeadlineExceeded:
            tells = True  # it would have taken at least so long
            raise
        finally:
            if tells:
                self._learn(model, formula_s, started)
            self._backlog.waits.end(model, lane, ticket, counts=tells)
            self.pending_requests -= 1
            self.pending_items -= request.items
            self._backlog.leave(model, lane, items=request.items, tokens=tokens)

    def backlog_s(self, model: str, lane: Lane) -> float:
        """Seconds of work that wait for a model's workers in a lane."""
        return self._correction(model) * self._formula_s(model, self._backlog.total(model, lane), 0)

    def is_late(self, model: str, lane: Lane, request: Request) -> bool:
        """Whether a request would be refused, or nearly so: its model's workers have more to do than its deadline allows."""
        return self.backlog_s(model, lane) > SHARE * deadlines.remaining_s(request.deadline)

    def _admit(self, model: str, lane: Lane, request: Request, tokens: int) -> float:
        """What the formula says of a request that may wait."""
        if self.pending_items + request.items > self._max_pending_items:
            raise Overloaded(
                f"{self.pending_items} inputs are waiting already and {self._max_pending_items} is the most",
                retry_after_s=self._comeback_s(model, lane, self.backlog_s(model, lane), tokens),
            )
        ahead = self._backlog.ahead(model, lane, max(tokens, self._fleet.batch_tokens(model)))
        formula_s = self._formula_s(model, ahead, tokens)
        estimate_s = self._correction(model) * formula_s
        remaining_s = max(0.0, deadlines.remaining_s(request.deadline))
        # With nothing ahead of it, a request that looks too large harms nobody by trying.
        if ahead and estimate_s > SHARE * remaining_s:
            excess_s = self._comeback_s(model, lane, estimate_s - SHARE * remaining_s, tokens)
            raise Overloaded(
                f"an answer would take about {estimate_s:.0f} s, with what {model} has to do already, and is wanted within "
                f"{remaining_s:.1f} s; try again in {excess_s:.0f} s, or allow more time with x-request-timeout",
                retry_after_s=excess_s,
            )
        if not ahead:
            self._comebacks.forget((model, lane))
        return formula_s

    def _comeback_s(self, model: str, lane: Lane, least_s: float, tokens: int) -> float:
        """When to come back who is refused; each gateway gives away its part of the time."""
        own_s = self._correction(model) * self._formula_s(model, 0, tokens) * self._backlog.gateways
        return self._comebacks.wait_s((model, lane), max(_SHORTEST_RETRY_S, least_s), own_s)

    def _learn(self, model: str, formula_s: float, started: float) -> None:
        # One that waited while Redis was away or a worker died would make the next ones be refused for no reason.
        if started > self._fleet.troubled_at:
            took_s = time.monotonic() - started
            self._corrections[model] = corrected(self._correction(model), formula_s, took_s)

    def _correction(self, model: str) -> float:
        return self._corrections.get(model, 1.0)

    def _formula_s(self, model: str, ahead: float, own: int) -> float:
        return wait_s(ahead, own, self._fleet.tokens_per_s(model))
