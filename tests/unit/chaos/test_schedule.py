"""The schedule of faults: repeatable, complete, and never two at a time on one target."""

from itertools import pairwise

import pytest

from tests.chaos.schedule import NATURES, Kind, make_schedule

SEEDS = range(100)


def test_a_seed_makes_the_same_schedule_and_another_seed_another() -> None:
    assert make_schedule(6, 180) == make_schedule(6, 180)
    assert make_schedule(6, 180) != make_schedule(7, 180)


@pytest.mark.parametrize("seed", SEEDS)
def test_three_minutes_have_every_kind_of_fault(seed: int) -> None:
    assert {event.kind for event in make_schedule(seed, 180)} == set(Kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_one_target_are_apart_so_that_each_finds_it_at_work(seed: int) -> None:
    ends: dict[str, float] = {}
    for event in make_schedule(seed, 1800):
        nature = NATURES[event.kind]
        assert event.at_s >= ends.get(nature.target, 0.0)
        ends[nature.target] = event.at_s + event.lasts_s + nature.rest_s


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_goes_wrong_at_the_end_so_that_all_can_come_back(seed: int) -> None:
    events = make_schedule(seed, 180)

    assert events == sorted(events, key=lambda event: event.at_s)
    assert all(event.at_s + event.lasts_s <= 162 for event in events)


def test_some_faults_of_different_targets_fall_together() -> None:
    events = make_schedule(6, 1800)

    assert any(later.at_s < event.at_s + event.lasts_s for event, later in pairwise(events))


def test_a_long_stop_of_a_worker_outlasts_its_lease() -> None:
    stops = [event for event in make_schedule(6, 1800) if event.kind is Kind.STOP_WORKER_LONG]

    assert stops
    assert all(stop.lasts_s > 3.5 for stop in stops)
