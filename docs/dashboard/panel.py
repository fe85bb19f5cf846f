"""A panel of the Grafana dashboard, and the shapes that its queries have."""

from dataclasses import dataclass, field
from typing import Literal

import shared.jobs  # noqa: F401 - defines errors
from shared.errors import MillraceError, _tree


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel."""

    title: str
    #: What it means, and what to make of it.
    description: str
    #: Grafana's name of the unit.
    unit: str
    #: Query and legend.
    queries: tuple[tuple[str, str], ...]
    kind: Literal["stat", "timeseries"] = "timeseries"
    #: Of 24 columns.
    width: int = 8
    stacked: bool = False
    #: From which value on it is drawn in which colour.
    limits: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels with a common title."""

    title: str
    panels: tuple[Panel, ...] = field(default_factory=tuple)


def failures() -> str:
    """The codes of errors that are the service's own, as a regular expression of Prometheus."""
    return "|".join(sorted(code for code, error in _tree(MillraceError).items() if error.status >= 500))


#: Every process that Prometheus calls so; and of one model, and one lane.
JOB = 'job=~"$job"'
MODEL = f'{JOB}, model=~"$model"'
LANE = f'{MODEL}, lane=~"$lane"'
_RANGE = "[$__rate_interval]"
FAILED = f'code=~"{failures()}"'


def rate(metric: str, by: str = "", chosen: str = JOB) -> str:
    """Growth of a counter per second, by some labels."""
    return f"sum by ({by}) (rate({metric}{{{chosen}}}{_RANGE}))" if by else f"sum(rate({metric}{{{chosen}}}{_RANGE}))"


def quantile(share: float, metric: str, by: str = "", chosen: str = JOB) -> str:
    """A quantile of a histogram, by some labels."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{chosen}}}{_RANGE})))"


def mean(metric: str, by: str, chosen: str = JOB) -> str:
    """The mean of a histogram, by some labels."""
    return f"{rate(f'{metric}_sum', by, chosen)} / {rate(f'{metric}_count', by, chosen)}"
