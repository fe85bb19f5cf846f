"""Waits: how long requests of a lane take and have waited, in all processes together."""

from math import ceil

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.backlog import TTL_S, Backlog
from api.waits import WINDOW_S, Waits
from shared.queues import Lane

LANE = ("m", Lane.INTERACTIVE)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _answer(waits: Waits, clock: Clock, seconds: float, *, counts: bool = True) -> None:
    ticket = waits.begin(*LANE)
    clock.now += seconds
    waits.end(*LANE, ticket, counts=counts)


def test_nothing_has_happened_yet(clock: Clock) -> None:
    found = Waits(clock).of(*LANE)

    assert (found.waiting, found.oldest_s, found.answered_per_s, found.p50_s, found.p95_s) == (0, 0.0, 0.0, None, None)


def test_the_oldest_that_waits_is_told_whoever_is_answered_before_it(clock: Clock) -> None:
    waits = Waits(clock)
    waits.begin(*LANE)
    clock.now += 2
    _answer(waits, clock, 1)

    assert (waits.of(*LANE).waiting, waits.of(*LANE).oldest_s) == (1, 3.0)
    assert waits.of("m", Lane.BULK).waiting == 0


@given(st.lists(st.floats(0.002, 0.2), min_size=1, max_size=80), st.sampled_from([0.5, 0.95]))
def test_a_percentile_is_a_tenth_beside_the_truth_at_most(times: list[float], share: float) -> None:
    clock = Clock()
    waits = Waits(clock)
    for seconds in times:
        _answer(waits, clock, seconds)

    found = waits.of(*LANE)
    truth = sorted(times)[ceil(share * len(times)) - 1]

    told = found.p50_s if share == 0.5 else found.p95_s
    assert told == pytest.approx(truth, rel=0.11)


def test_what_was_answered_long_ago_is_forgotten(clock: Clock) -> None:
    waits = Waits(clock)
    for _ in range(60):
        _answer(waits, clock, 0.01)
    assert waits.of(*LANE).answered_per_s == 60 / WINDOW_S

    clock.now += WINDOW_S + 1

    assert (waits.of(*LANE).answered_per_s, waits.of(*LANE).p50_s) == (0.0, None)
    assert waits.mine() == []


def test_a_sender_who_left_says_nothing_of_the_service(clock: Clock) -> None:
    waits = Waits(clock)

    _answer(waits, clock, 0.01, counts=False)

    assert (waits.of(*LANE).waiting, waits.of(*LANE).p50_s) == (0, None)


def test_what_other_processes_say_is_added_until_they_fall_silent() -> None:
    # Given two gateways and a job runner, of which one is of a version that knows nothing of lanes
    here, there = Backlog("gw-here"), Backlog("gw-there")
    there.waits.begin(*LANE)
    there.waits.end(*LANE, there.waits.begin(*LANE), counts=True)
    field, value = there.mine(1000.0)
    old = orjson.dumps({"at": 1000.0, "waiting": []})

    # When
    here.hear({field.encode(): value, b"jr-old": old}, 1000.0 + TTL_S / 2)
    heard = here.waits.of(*LANE)
    processes = here.processes
    here.hear({field.encode(): value, b"jr-old": old}, 1000.0 + 2 * TTL_S)

    # Then
    assert (heard.waiting, heard.answered_per_s) == (1, 1 / WINDOW_S)
    assert heard.p50_s is not None
    assert processes == ["gw-there", "jr-old"]
    assert (here.waits.of(*LANE).waiting, here.processes) == (0, [])


def test_ones_own_word_is_not_counted_twice() -> None:
    here = Backlog("gw-here")
    here.waits.begin(*LANE)
    field, value = here.mine(1000.0)

    here.hear({field.encode(): value}, 1000.0)

    assert here.waits.of(*LANE).waiting == 1
