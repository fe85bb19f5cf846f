"""Who is refused is told a time of its own."""

import pytest

from api.comebacks import LONGEST_S, Comebacks


class Clock:
    """A time that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def comebacks(clock: Clock) -> Comebacks:
    return Comebacks(clock)


def test_those_who_are_refused_together_come_back_one_behind_the_other(comebacks: Comebacks) -> None:
    assert [comebacks.wait_s("queue", 2.0, 0.5) for _ in range(4)] == [2.0, 2.5, 3.0, 3.5]


def test_queues_do_not_wait_for_each_other(comebacks: Comebacks) -> None:
    comebacks.wait_s("queue", 2.0, 10.0)

    assert comebacks.wait_s("other", 2.0, 10.0) == 2.0


def test_times_that_have_passed_are_nobodys_any_more(comebacks: Comebacks, clock: Clock) -> None:
    comebacks.wait_s("queue", 2.0, 5.0)
    clock.now += 4.0
    assert comebacks.wait_s("queue", 2.0, 1.0) == 3.0
    clock.now += 100.0
    assert comebacks.wait_s("queue", 2.0, 1.0) == 2.0


def test_nobody_is_sent_away_for_longer_than_a_minute_and_time_goes_on_from_there(
    comebacks: Comebacks, clock: Clock
) -> None:
    assert [comebacks.wait_s("queue", 52.0, 4.0) for _ in range(4)] == [52.0, 56.0, LONGEST_S, LONGEST_S]
    clock.now += 30.0
    assert comebacks.wait_s("queue", 2.0, 4.0) == 34.0


def test_one_who_asked_for_much_keeps_others_away_for_a_moment_only(comebacks: Comebacks) -> None:
    comebacks.wait_s("queue", 1.0, 300.0)

    assert comebacks.wait_s("queue", 1.0, 0.1) == 6.0


def test_when_there_is_room_again_nobody_waits_for_those_who_did_not_come(comebacks: Comebacks) -> None:
    for _ in range(10):
        comebacks.wait_s("queue", 1.0, 5.0)

    comebacks.forget("queue")

    assert comebacks.wait_s("queue", 1.0, 5.0) == 1.0
