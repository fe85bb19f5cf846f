"""The stages of a request are its time, parted without a gap, whatever the clocks say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.stages import Stage, Stages, Trip, parted
from shared.metrics import Metrics, Owner
from shared.queues import Lane
from shared.results import Timings

SECONDS = st.floats(0, 100)
NOON = 1_800_000_000.0


def test_a_trip_is_parted_by_what_the_worker_measured() -> None:
    # Given: 1 s in the gateway, 2 s in Redis, 4 s with the worker, of which 1 s in its lane, half a second on the way back
    trip = Trip(waited_s=1.0, published_at=NOON, seconds=6.5)
    timings = Timings(queue_s=1.0, tokenization_s=0.25, inference_s=2.0, received_at=NOON + 2, held_s=4.0)

    assert parted(trip, timings) == {
        Stage.QUEUE: pytest.approx(4.0),
        Stage.TOKENIZE: 0.25,
        Stage.INFER: 2.0,
        Stage.REPLY: pytest.approx(1.25),
    }


@pytest.mark.parametrize(("wrong_s", "queue_s"), [(-3600.0, 1.0), (3600.0, 3.5)])
def test_a_worker_whose_clock_is_an_hour_wrong_moves_time_between_queue_and_reply_only(
    wrong_s: float, queue_s: float
) -> None:
    trip = Trip(waited_s=0.0, published_at=NOON, seconds=6.5)
    timings = Timings(queue_s=1.0, inference_s=2.0, received_at=NOON + 2 + wrong_s, held_s=4.0)

    found = parted(trip, timings)

    assert found[Stage.QUEUE] == pytest.approx(queue_s)
    assert sum(found.values()) == pytest.approx(6.5)


def test_of_a_worker_that_does_not_tell_the_rest_is_the_way_back() -> None:
    found = parted(Trip(0.5, NOON, 3.0), Timings(queue_s=1.0, inference_s=1.0))

    assert (found[Stage.QUEUE], found[Stage.REPLY]) == (1.5, 1.0)


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_a_worker_that_says_too_much_is_believed_as_far_as_there_was_time(
    waited_s: float, seconds: float, lane_s: float, infer_s: float
) -> None:
    # Given one of before, which added up the forward passes of batches that ran at the same time
    found = parted(Trip(waited_s, NOON, seconds), Timings(lane_s, 0.0, infer_s))

    assert sum(found.values()) == pytest.approx(waited_s + seconds, abs=1e-5)
    assert min(found.values()) >= -1e-9


@given(SECONDS, SECONDS, SECONDS, SECONDS, st.floats(0, 1), st.floats(-1e6, 1e6))
def test_stages_add_up_to_the_whole(
    waited_s: float, lane_s: float, infer_s: float, way_s: float, share: float, wrong_s: float
) -> None:
    # Given a worker that holds a task for as long as it says, and a way out and back around it
    held_s = lane_s + infer_s
    trip = Trip(waited_s, NOON, held_s + way_s)
    timings = Timings(lane_s, 0.0, infer_s, received_at=NOON + share * way_s + wrong_s, held_s=held_s)

    found = parted(trip, timings)

    assert sum(found.values()) == pytest.approx(waited_s + trip.seconds, abs=1e-5)
    assert min(found.values()) >= 0


def test_each_stage_is_counted_by_model_and_lane() -> None:
    metrics = Metrics(Owner.GATEWAY)
    stages = Stages(metrics)

    stages.observe("m", Lane.BULK, parted(Trip(0.0, NOON, 2.0), Timings(inference_s=1.5)))
    stages.observe_gateway("m", Lane.BULK, 0.25)

    shown = metrics.exposition().decode()
    for stage, seconds in (("gateway", 0.25), ("queue", 0.0), ("tokenize", 0.0), ("infer", 1.5), ("reply", 0.5)):
        labels = f'{{lane="bulk",model="m",stage="{stage}"}}'
        assert f"millrace_stage_duration_seconds_sum{labels} {seconds}" in shown
        assert f"millrace_stage_duration_seconds_count{labels} 1.0" in shown
