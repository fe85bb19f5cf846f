"""Which jobs stand still, and which only wait for something that is due."""

import pytest

from api.bulk.progress import stalled_s
from shared.bulk.jobs import Job, State
from tests.helpers.bulk_jobs import spec

NOW = 1_800_000_000.0


def _job(
    state: State = State.IN_PROGRESS,
    *,
    entered_s: float = 1000.0,
    done: int = 1,
    done_s: float = 0.0,
    heard_s: float = 0.0,
    priority: int = 0,
) -> Job:
    """One of four segments, that entered its state, finished a segment and was heard of so long ago; 0 for never."""
    return Job(
        spec=spec(priority=priority),
        state=state,
        segments=4,
        segments_done=done,
        entered_at={str(state): NOW - entered_s},
        rated_at=NOW - done_s if done_s else 0.0,
        appended_at=NOW - heard_s if heard_s else 0.0,
    )


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (_job(done_s=60), 60),
        (_job(done=0), 1000),
        (_job(entered_s=5, done_s=60), 5),
        (_job(State.RECEIVING, done_s=60, heard_s=7), 7),
        (_job(State.RECEIVING, done=4, done_s=60), 0),
        (_job(State.FINALIZING, entered_s=30, done=4), 30),
        (_job(State.VALIDATING, entered_s=30, done=0), 30),
    ],
)
def test_a_job_stands_still_since_it_last_got_on(job: Job, seconds: float) -> None:
    assert stalled_s([job], NOW) == pytest.approx(seconds)


def test_the_job_counts_that_has_waited_longest() -> None:
    assert stalled_s([_job(done_s=5), _job(done_s=50), _job(done_s=20)], NOW) == pytest.approx(50)


def test_a_job_that_waits_for_those_of_a_higher_priority_does_not_stand_still() -> None:
    assert stalled_s([_job(done_s=5, priority=1), _job(done_s=500)], NOW) == pytest.approx(5)


def test_a_job_whose_betters_wait_for_documents_has_its_turn() -> None:
    waits = _job(State.RECEIVING, done=4, done_s=60, priority=1)

    assert stalled_s([waits, _job(done_s=500)], NOW) == pytest.approx(500)


def test_without_jobs_nothing_stands_still() -> None:
    assert stalled_s([], NOW) == 0
