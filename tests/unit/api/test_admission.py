"""Admission: who cannot be answered in time is told at once, and when to come back."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admission import Admission, corrected, wait_s
from api.backlog import TTL_S, Backlog
from shared.errors import DeadlineExceeded, Overloaded
from shared.jobs import EmbedRequest
from shared.queues import Lane
from tests.helpers.fleets import card, fleet_of


def _request(*, seconds: float = 10.0, items: int = 1) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=time.time() + seconds, texts=["x"] * items)


def _wait(backlog: Backlog, seconds: int) -> None:
    """Requests that take so long together, half a second each."""
    for _ in range(2 * seconds):
        backlog.enter("m", Lane.INTERACTIVE, items=1, tokens=1000)


@pytest.fixture
def backlog() -> Backlog:
    return Backlog("gw-here")


@pytest.fixture
def admission(backlog: Backlog) -> Admission:
    """Of a model with two workers that make 1,000 tokens/s each."""
    return Admission(fleet_of(card("m"), card("m")), backlog, max_pending_items=100)


def test_a_request_that_would_be_late_is_refused_with_the_time_to_come_back(
    admission: Admission, backlog: Backlog
) -> None:
    # Given 20 seconds of work ahead
    _wait(backlog, 20)

    # When somebody wants an answer within five
    with pytest.raises(Overloaded) as refused, admission.admitted("m", Lane.INTERACTIVE, _request(seconds=5), 2000):
        pass

    # Then 17 of the 21 seconds have to pass first, which leaves some of the five for surprises, and the sentence says so
    assert refused.value.retry_after_s == pytest.approx(17, abs=0.1)
    assert "about 21 s" in refused.value.message
    assert "x-request-timeout" in refused.value.message


def test_each_one_that_is_refused_is_told_to_come_behind_the_one_before(admission: Admission, backlog: Backlog) -> None:
    _wait(backlog, 20)
    told = []
    for _ in range(3):
        with pytest.raises(Overloaded) as refused, admission.admitted("m", Lane.INTERACTIVE, _request(seconds=5), 2000):
            pass
        told.append(refused.value.retry_after_s)

    # One second of work each
    assert told == pytest.approx([17, 18, 19], abs=0.1)


def test_each_of_several_gateways_gives_away_its_part_of_the_time(admission: Admission, backlog: Backlog) -> None:
    said = dict(Backlog(f"gw-{number}").mine(1000.0) for number in range(2))
    backlog.hear({name.encode(): value for name, value in said.items()}, 1000.0)
    _wait(backlog, 20)
    told = []
    for _ in range(2):
        with pytest.raises(Overloaded) as refused, admission.admitted("m", Lane.INTERACTIVE, _request(seconds=5), 2000):
            pass
        told.append(refused.value.retry_after_s)

    assert told == pytest.approx([17, 19], abs=0.1)


def test_who_has_the_time_waits(admission: Admission, backlog: Backlog) -> None:
    _wait(backlog, 20)

    with admission.admitted("m", Lane.INTERACTIVE, _request(seconds=30), 2000):
        assert admission.pending_requests == 1
        assert backlog.total("m", Lane.INTERACTIVE) == 42_000

    assert (admission.pending_requests, admission.pending_items) == (0, 0)
    assert backlog.total("m", Lane.INTERACTIVE) == 40_000


def test_a_search_behind_a_giant_waits_for_a_part_of_it_only(admission: Admission, backlog: Backlog) -> None:
    # Given one request of minutes
    backlog.enter("m", Lane.INTERACTIVE, items=2048, tokens=1_000_000)

    # Then a small one is let in, and another of that size is not
    with admission.admitted("m", Lane.INTERACTIVE, _request(seconds=5), 20):
        pass
    with pytest.raises(Overloaded), admission.admitted("m", Lane.INTERACTIVE, _request(seconds=5), 1_000_000):
        pass


def test_bulk_work_keeps_nobody_from_searching(admission: Admission, backlog: Backlog) -> None:
    for _ in range(1000):
        backlog.enter("m", Lane.BULK, items=1, tokens=10_000)

    with admission.admitted("m", Lane.INTERACTIVE, _request(), 10):
        pass
    with pytest.raises(Overloaded), admission.admitted("m", Lane.BULK, _request(), 10):
        pass


def test_a_large_request_with_nothing_ahead_of_it_may_try(admission: Admission) -> None:
    with admission.admitted("m", Lane.INTERACTIVE, _request(seconds=1), 1_000_000):
        pass


def test_without_workers_requests_wait_for_one_to_start() -> None:
    backlog = Backlog("gw")
    _wait(backlog, 5000)
    admission = Admission(fleet_of(), backlog, max_pending_items=100)

    with admission.admitted("m", Lane.INTERACTIVE, _request(), 10):
        pass


def test_no_more_inputs_wait_than_are_allowed(admission: Admission) -> None:
    with (
        admission.admitted("m", Lane.INTERACTIVE, _request(items=60), 60),
        pytest.raises(Overloaded, match="60 inputs are waiting already and 100 is the most") as refused,
        admission.admitted("m", Lane.INTERACTIVE, _request(items=60), 60),
    ):
        pass

    assert (refused.value.retry_after_s or 0) >= 1


def test_what_waits_at_other_gateways_is_ahead_too_until_they_fall_silent(
    admission: Admission, backlog: Backlog
) -> None:
    # Given another gateway with 20 seconds of work
    other = Backlog("gw-there")
    _wait(other, 20)
    field, value = other.mine(1000.0)

    # When its word is fresh, and when it is old
    fresh = backlog.hear({field.encode(): value}, 1000.0 + TTL_S / 2)
    wait_when_fresh = admission.backlog_s("m", Lane.INTERACTIVE)
    silent = backlog.hear({field.encode(): value}, 1000.0 + 2 * TTL_S)
    wait_when_silent = admission.backlog_s("m", Lane.INTERACTIVE)

    # Then
    assert (fresh, wait_when_fresh) == ([], 20.0)
    assert (silent, wait_when_silent) == (["gw-there"], 0.0)


def test_ones_own_word_is_not_counted_twice(backlog: Backlog) -> None:
    backlog.enter("m", Lane.INTERACTIVE, items=1, tokens=500)
    field, value = backlog.mine(1000.0)

    backlog.hear({field.encode(): value}, 1000.0)

    assert backlog.total("m", Lane.INTERACTIVE) == 500


@given(st.floats(0.5, 4.0), st.integers(0, 200))
def test_estimates_come_to_what_requests_really_take_and_stay_there(truth: float, answered_later: int) -> None:
    # Given workers that are slower or faster than they say, and requests that are answered long after they were let in
    correction = 1.0

    # When hundreds of requests have been answered
    for _ in range(150 + answered_later):
        correction = corrected(correction, wait_s(10_000, 0, 2000), truth * 5.0)

    # Then
    assert correction * wait_s(10_000, 0, 2000) == pytest.approx(truth * 5.0, rel=0.05)


def test_one_strange_request_changes_little_and_short_ones_nothing() -> None:
    assert corrected(1.0, 1.0, 1000.0) <= 8.0
    assert corrected(1.0, 0.1, 30.0) == 1.0


def test_who_waited_while_redis_was_away_does_not_make_others_be_refused(backlog: Backlog) -> None:
    # Given a request for which a second is estimated, and which falls due while Redis is away
    fleet = fleet_of(card("m"))
    admission = Admission(fleet, backlog, max_pending_items=100)
    for _ in range(20):
        with suppress(DeadlineExceeded), admission.admitted("m", Lane.INTERACTIVE, _request(), 1000):
            fleet.troubled_at = time.monotonic()
            raise DeadlineExceeded()

    # When five seconds of work wait, then the estimate of the next is what it was before
    _wait(backlog, 5)
    assert admission.backlog_s("m", Lane.INTERACTIVE) == pytest.approx(10)


@pytest.mark.parametrize("error", [DeadlineExceeded, ValueError])
def test_what_was_not_answered_is_not_counted_any_more(
    admission: Admission, backlog: Backlog, error: Callable[[], Exception]
) -> None:
    with pytest.raises(Exception), admission.admitted("m", Lane.INTERACTIVE, _request(), 10):  # noqa: B017
        raise error()

    assert admission.pending_requests == 0
    assert backlog.total("m", Lane.INTERACTIVE) == 0
    assert backlog.items["m"] == 0


def test_the_age_of_the_oldest_request_is_told_by_model_and_lane(admission: Admission, backlog: Backlog) -> None:
    def oldest() -> float:
        return backlog.waits.oldest_here_s("m", Lane.INTERACTIVE)

    # Given two requests, one of which has waited for a while
    with admission.admitted("m", Lane.INTERACTIVE, _request(), 10):
        time.sleep(0.05)
        with admission.admitted("m", Lane.INTERACTIVE, _request(), 10):
            assert 0.05 <= oldest() < 5
            assert (
                backlog.waits.oldest_here_s("m", Lane.BULK)
                == backlog.waits.oldest_here_s("other", Lane.INTERACTIVE)
                == 0
            )

        # When the younger one is answered, Then the other is still the oldest
        assert oldest() >= 0.05
    assert oldest() == 0
