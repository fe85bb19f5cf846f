"""The report tells what was broken, and when."""

import dataclasses

import pytest

from tests.chaos import report
from tests.chaos.bulk import JobVerdict
from tests.chaos.faults import Applied
from tests.chaos.ledger import Answer, Ledger, Outages
from tests.chaos.schedule import Kind


def run_of(*answers: Answer | None, jobs: tuple[JobVerdict, ...] = ()) -> report.Run:
    """A run with a request for each answer, sent a second apart, during which a worker was killed at 2 s."""
    ledger = Ledger()
    for number, answer in enumerate(answers):
        ledger.sent(100.0 + number, 5.0)
        if answer is not None:
            ledger.answered(number, answer)
    return report.Run(
        seed=6,
        minutes=3,
        began_at=100.0,
        ledger=ledger,
        outages=Outages(),
        faults=[Applied(Kind.KILL_WORKER, 102.0, 102.0)],
        jobs=jobs,
        own_deaths=[],
    )


def test_a_run_without_a_fault_of_the_service_says_so() -> None:
    run = run_of(*(Answer(100.5 + number, 200, is_right=True) for number in range(4)), jobs=(JobVerdict(10),))

    assert not report.is_violated(run)
    assert report.text(run).endswith("seed 6, 3 minutes: every promise kept")
    assert report.summary(run)["faults"] == {"worker killed": {"times": 1, "median_s": 0.5, "max_s": 0.5}}


def test_a_lost_request_is_told_with_its_time_and_what_was_wrong_then() -> None:
    run = run_of(Answer(100.5, 200, is_right=True), None, None, None)

    assert report.is_violated(run)
    assert "lost: sent at 3.00 s, deadline 5 s, no end after 0.00 s []; faults meanwhile: worker killed" in report.text(
        run
    )
    assert report.text(run).endswith("VIOLATED")


@pytest.mark.parametrize(
    "job",
    [
        JobVerdict(10, missing=[3]),
        JobVerdict(10, doubled=[3]),
        JobVerdict(10, callbacks=[3]),
        JobVerdict(10, trouble="no"),
    ],
)
def test_a_bulk_job_that_is_not_as_it_should_be_is_a_violation_of_its_own(job: JobVerdict) -> None:
    run = run_of(Answer(100.5, 200, is_right=True), jobs=(job,))

    assert report.is_violated(run)
    assert report.text(run).endswith("VIOLATED")


def test_a_service_that_answers_nobody_keeps_no_promise() -> None:
    refused = (Answer(100.5 + number, 503, "1", "the service cannot reach its queue") for number in range(9))

    assert report.is_violated(run_of(*refused, Answer(109.5, 200, is_right=True)))


@pytest.mark.parametrize(
    ("death", "is_violation"), [("part_died part=gateway status=-15", True), ("part_died part=worker status=78", False)]
)
def test_a_part_that_ends_by_itself_is_told(death: str, is_violation: bool) -> None:
    right = run_of(*(Answer(100.5 + number, 200, is_right=True) for number in range(4)))

    run = dataclasses.replace(right, own_deaths=[death])

    assert report.is_violated(run) == is_violation
    assert death in report.text(run)


def test_a_fault_after_which_nobody_was_answered_was_not_recovered_from() -> None:
    run = run_of(Answer(100.5, 200, is_right=True))

    assert report.summary(run)["faults"]["worker killed"]["max_s"] == "never"
    assert report.is_violated(run)
