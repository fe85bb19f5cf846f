"""One measurement of one load, and what several rounds of it say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One load in one round."""

    texts: int
    seconds: float
    #: Latency of a request in milliseconds; of a pass over all texts there is none.
    p50_ms: float | None = None
    p99_ms: float | None = None
    #: Share of one core that the load generator itself used; it comes out of the service's.
    client_cpu: float | None = None
    #: Time without tokenising, in seconds; of the bare forward only.
    forward_s: float | None = None
    #: Of an open-loop load: requests/s that were due, and how late the generator itself was, in milliseconds.
    offered_per_s: float | None = None
    lateness_p50_ms: float | None = None
    lateness_p99_ms: float | None = None

    @property
    def texts_per_s(self) -> float:
        """Throughput."""
        return self.texts / self.seconds

    def to_json(self) -> dict[str, Any]:
        """The fields that mean something, and the throughput."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {**fields, "texts_per_s": self.texts_per_s}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**{name: value for name, value in data.items() if name != "texts_per_s"})


#: Row name → one measurement per round.
Results = dict[str, list[Measurement]]


def of_latencies(latencies_s: Sequence[float], *, texts: int, seconds: float, client_cpu_s: float) -> Measurement:
    """The measurement that a load generator has made."""
    return Measurement(
        texts=texts,
        seconds=seconds,
        p50_ms=percentile(latencies_s, 0.50) * 1000,
        p99_ms=percentile(latencies_s, 0.99) * 1000,
        client_cpu=client_cpu_s / seconds,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def median_of(measurements: Sequence[Measurement], name: str) -> float:
    """Median over the rounds of one field or property."""
    values: list[float] = [getattr(measurement, name) for measurement in measurements]
    return median(values)


def median_ratio(over: Sequence[Measurement], under: Sequence[Measurement]) -> float:
    """Median of the rounds' throughput ratios: within a round both saw the machine in the same state."""
    return median(a.texts_per_s / b.texts_per_s for a, b in zip(over, under, strict=True))


def spread(measurements: Sequence[Measurement]) -> float:
    """Highest minus lowest throughput over the rounds, as a share of the median."""
    speeds = [measurement.texts_per_s for measurement in measurements]
    return (max(speeds) - min(speeds)) / median(speeds)
