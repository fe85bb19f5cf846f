"""Parcels for sinks, as the callback worker makes them."""

from collections.abc import Sequence
from typing import Any

from shared.bulk.events import Event, EventState, EventType
from shared.bulk.jobs import Job, State
from shared.bulk.results import SegmentResults
from shared.bulk.table import Segment
from tests.helpers.bulk_jobs import results, spec
from workers.sink import Parcel, Tools


def no_post(*_: Any) -> Any:
    """What sinks that are databases never call."""
    raise AssertionError("a database is not sent callbacks")


TOOLS = Tools(no_post, 1 << 20, "")


def parcel(
    number: int = 0, size: int = 4, *, kinds: Sequence[str] = ("dense",), ids: Sequence[Any] | None = None
) -> Parcel:
    """A segment's results on their way to a sink."""
    return parcel_of(results(number * size, size, kinds=kinds, ids=ids), number)


def parcel_of(made: SegmentResults, number: int = 0) -> Parcel:
    """These results on their way."""
    segment = Segment(number, made.first, made.first + len(made), "abcdefgh")
    return Parcel(_event(EventType.RESULTS, number), Job(spec=spec(), state=State.IN_PROGRESS), segment, lambda: made)


def final_parcel() -> Parcel:
    """Word of how a job ended."""
    return Parcel(
        _event(EventType.JOB_COMPLETED, -1), Job(spec=spec(), state=State.COMPLETED), None, lambda: results(0, 1)
    )


def _event(kind: EventType, segment: int) -> Event:
    return Event(
        id=f"evt_job_1_{segment}",
        job="job_1",
        target="sink-test",
        lane="sink-test",
        segment=segment,
        type=kind,
        created_at=1,
        state=EventState.PENDING,
    )
