"""Which models are served, asleep or missing, and for how long work has waited for those without a worker, as gauges."""

import time
from collections.abc import Mapping
from enum import StrEnum

from api.catalog import Catalog
from shared.metrics import Metrics


class Coverage(StrEnum):
    """What becomes of a request for a model."""

    #: A live worker has run it.
    SERVED = "served"
    #: It has no worker, and gets one when work waits.
    SLEEPING = "sleeping"
    #: It has no worker, and should have.
    MISSING = "missing"


class CoverageGauges:
    """They are set whenever Prometheus asks, and say no more than was to be seen then."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        #: Since when work has waited, by the monotonic clock, of models that have no worker.
        self._waiting_since: dict[str, float] = {}

    def measure(self, queued_tasks: Mapping[str, int] | None) -> None:
        """Set the gauges.

        Args:
            queued_tasks: Tasks in Redis by model; None while it is away: whether work waits is not known then.
        """
        missing, sleeping = self._catalog.missing(), self._catalog.sleeping()
        for config in self._catalog.models:
            model = config.name
            coverage = Coverage.SERVED
            if model in missing:
                coverage = Coverage.MISSING
            elif model in sleeping:
                coverage = Coverage.SLEEPING
            for each in Coverage:
                self._metrics.gauge("millrace_model_coverage", model=model, coverage=str(each)).set(each is coverage)
            waits = coverage is not Coverage.SERVED and bool((queued_tasks or {}).get(model))
            self._metrics.gauge("millrace_unserved_seconds", model=model).set(self._waited_s(model, waits=waits))
            self._metrics.gauge("millrace_cold_start_seconds", model=model).set(config.cold_start_s)

    def _waited_s(self, model: str, *, waits: bool) -> float:
        if not waits:
            self._waiting_since.pop(model, None)
            return 0.0
        now = time.monotonic()
        return now - self._waiting_since.setdefault(model, now)
