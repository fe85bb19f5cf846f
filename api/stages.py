"""Where the time of answered requests goes, by stage, model and lane.

A request's time is parted without a gap: **gateway** is reading, checking and rendering; **queue** all waiting for the
device, in the gateway, in Redis and in the worker's lane; **tokenize** and **infer** are the worker's own measurements;
**reply** is what is left: waiting for the other requests of the task, and the way back. Only where the queue ends on the
way out is told by the worker's clock, so a clock that is wrong moves time between queue and reply and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Histogram

from shared.metrics import Metrics
from shared.queues import Lane
from shared.results import Timings


class Stage(StrEnum):
    """A part of a request's time."""

    GATEWAY = "gateway"
    QUEUE = "queue"
    TOKENIZE = "tokenize"
    INFER = "infer"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Trip:
    """From the time that a part of a request began to wait until its reply was here."""

    #: In the gateway, until it was published, in seconds.
    waited_s: float
    #: Unix seconds.
    published_at: float
    #: From publication to reply, in seconds.
    seconds: float


def parted(trip: Trip, timings: Timings) -> dict[Stage, float]:
    """The seconds of a trip in each stage; they add up to the whole of it."""
    # Measured by two clocks, so bounded by what one clock says. Workers that do not tell are taken to answer at once.
    way_out_s = min(max(0.0, timings.received_at - trip.published_at), max(0.0, trip.seconds - timings.held_s))
    found: dict[Stage, float] = {}
    left_s = trip.waited_s + trip.seconds
    for stage, seconds in (
        (Stage.QUEUE, trip.waited_s + way_out_s + timings.queue_s),
        (Stage.TOKENIZE, timings.tokenization_s),
        (Stage.INFER, timings.inference_s),
    ):
        # Workers of before added up what they did at the same time.
        found[stage] = min(seconds, left_s)
        left_s -= found[stage]
    return {**found, Stage.REPLY: left_s}


class Stages:
    """Their histograms."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        #: By model and lane: to look one up by its labels costs more than to observe.
        self._known: dict[tuple[str, Lane], dict[Stage, Histogram]] = {}

    def observe(self, model: str, lane: Lane, stages: Mapping[Stage, float]) -> None:
        """Count what a trip took."""
        histograms = self._of(model, lane)
        for stage, seconds in stages.items():
            histograms[stage].observe(seconds)

    def observe_gateway(self, model: str, lane: Lane, seconds: float) -> None:
        """Count what a request took beside its trips."""
        self._of(model, lane)[Stage.GATEWAY].observe(seconds)

    def _of(self, model: str, lane: Lane) -> dict[Stage, Histogram]:
        key = model, lane
        if key not in self._known:
            self._known[key] = {
                stage: self._metrics.histogram(
                    "millrace_stage_duration_seconds", stage=str(stage), model=model, lane=str(lane)
                )
                for stage in Stage
            }
        return self._known[key]
