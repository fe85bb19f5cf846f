"""The ledger says so when the service breaks its promise."""

import numpy as np
import pytest

from tests.chaos.bulk import judge_job
from tests.chaos.ledger import Answer, Ledger, Outages, Period, Verdict
from tests.chaos.texts import TEXTS, Vectors

SENT, DEADLINE_S = 100.0, 5.0
RIGHT = Answer(101.0, 200, is_right=True)


def verdict_of(*answers: Answer, outages: Outages | None = None, failed: tuple[float, str] | None = None) -> Verdict:
    """What the ledger says of a request with these answers."""
    ledger = Ledger()
    number = ledger.sent(SENT, DEADLINE_S)
    for answer in answers:
        ledger.answered(number, answer)
    if failed is not None:
        ledger.failed(number, *failed)
    (verdict,) = ledger.verdicts(outages or Outages())
    return verdict


def test_a_right_answer_in_time_is_right() -> None:
    assert verdict_of(RIGHT) is Verdict.RIGHT


@pytest.mark.parametrize(("status", "retry_after"), [(429, "2"), (503, "1"), (504, None)])
def test_a_sentence_with_its_retry_after_is_a_clear_error(status: int, retry_after: str | None) -> None:
    assert verdict_of(Answer(101.0, status, retry_after, "try again later")) is Verdict.CLEAR_ERROR


@pytest.mark.parametrize(
    "answer",
    [
        Answer(101.0, 500, "1", "an internal error happened"),
        Answer(101.0, 429, None, "without a time to come back"),
        Answer(101.0, 503, None, "without a time to come back"),
        Answer(101.0, 503, "1", ""),
    ],
)
def test_an_error_that_tells_a_client_too_little_is_a_violation(answer: Answer) -> None:
    assert verdict_of(answer) is Verdict.UNCLEAR


def test_an_answer_within_a_second_of_its_deadline_is_in_time_and_a_later_one_is_late() -> None:
    assert verdict_of(Answer(105.9, 200, is_right=True)) is Verdict.RIGHT
    assert verdict_of(Answer(106.1, 200, is_right=True)) is Verdict.LATE
    assert verdict_of(Answer(106.1, 504, None, "too late for you")) is Verdict.LATE


def test_two_answers_are_one_too_many() -> None:
    assert verdict_of(RIGHT, RIGHT) is Verdict.DOUBLED


def test_other_vectors_are_wrong() -> None:
    assert verdict_of(Answer(101.0, 200, is_right=False)) is Verdict.WRONG


def test_a_request_without_an_end_is_lost() -> None:
    assert verdict_of() is Verdict.LOST


@pytest.mark.parametrize("how", ["refused", "reset", "closed", "silence"])
def test_a_connection_that_ends_without_an_answer_is_excused_only_while_the_gateway_was_dead(how: str) -> None:
    outages = Outages(down=[Period(102.0, 104.0)])

    assert verdict_of(failed=(103.0, how), outages=outages) is Verdict.NOT_ACCEPTED
    assert verdict_of(failed=(101.0, how), outages=outages) is Verdict.LOST
    assert verdict_of(failed=(105.0, how), outages=outages) is Verdict.LOST
    assert verdict_of(failed=(103.0, how)) is Verdict.LOST


def test_a_stopped_gateway_excuses_lateness_until_it_goes_on_and_no_longer() -> None:
    # Given a gateway that is stopped over the deadline
    outages = Outages(frozen=[Period(104.0, 107.0)])

    assert verdict_of(Answer(107.9, 200, is_right=True), outages=outages) is Verdict.RIGHT
    assert verdict_of(Answer(108.1, 200, is_right=True), outages=outages) is Verdict.LATE


def test_what_a_stopped_gateway_was_sent_counts_from_when_it_goes_on() -> None:
    outages = Outages(frozen=[Period(99.0, 102.0)])

    assert verdict_of(Answer(107.9, 200, is_right=True), outages=outages) is Verdict.RIGHT
    assert verdict_of(Answer(108.1, 200, is_right=True), outages=outages) is Verdict.LATE


def test_a_stop_long_before_the_deadline_excuses_nothing() -> None:
    outages = Outages(frozen=[Period(101.0, 103.0)])

    assert verdict_of(Answer(106.1, 200, is_right=True), outages=outages) is Verdict.LATE


VECTORS: Vectors = np.random.default_rng(0).standard_normal((len(TEXTS), 4)).astype("<f4")


def results(count: int) -> list[dict[str, object]]:
    """A job's results as they should be."""
    return [{"index": n, "id": f"doc-{n}", "embedding": VECTORS[n % len(TEXTS)].tolist()} for n in range(count)]


def test_a_job_with_every_document_once_is_all_right() -> None:
    assert not judge_job(200, results(200), VECTORS).is_violation


def test_a_lost_a_doubled_a_failed_and_a_wrong_document_are_told() -> None:
    lines = results(200)
    lines[10]["embedding"] = lines[11]["embedding"]
    lines[20] = {"index": 20, "id": "doc-20", "error": {"message": "no"}}
    lines[30] = {**lines[31]}
    lines[40]["id"] = "doc-41"

    verdict = judge_job(200, lines, VECTORS)

    assert verdict.is_violation
    assert (verdict.missing, verdict.doubled) == ([30], [31])
    assert (verdict.failed, verdict.wrong) == ([20], [10, 40])
