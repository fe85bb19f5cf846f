"""The stand-in for KEDA and the HPA does what their documentation says."""

from dataclasses import replace
from itertools import pairwise

from bench.autoscaler import Autoscaler, Scaling, Trigger, wanted_replicas

LIST = Trigger("redis", 2.0, 0.0, {"listName": "q"})
SCALING = Scaling(
    target="worker",
    least=0,
    most=8,
    polling_s=5,
    cooldown_s=60,
    triggers=[LIST],
    up_window_s=0,
    up_percent=100,
    up_period_s=30,
    down_window_s=120,
    down_pods=1,
    down_period_s=60,
    fallback_failures=2,
    fallback_replicas=3,
)


class Cluster:
    """Replicas under an autoscaler, a second at a time."""

    def __init__(self, scaling: Scaling = SCALING, replicas: int = 0) -> None:
        self.autoscaler, self.replicas, self.now = Autoscaler(scaling), replicas, 0.0

    def run(self, value: float | None, seconds: int) -> list[int]:
        history = []
        for _ in range(seconds):
            values = None if value is None else {"q": value}
            self.replicas = self.autoscaler.replicas(values, self.replicas, self.now)
            self.now += 1
            history.append(self.replicas)
        return history


def test_one_message_wakes_from_zero_within_a_poll() -> None:
    cluster = Cluster()
    cluster.run(0, 7)

    assert cluster.run(1, 5)[-1] == 1


def test_what_is_not_above_the_activation_wakes_nothing() -> None:
    scaling = replace(SCALING, triggers=[replace(LIST, activation=5.0)])

    assert set(Cluster(scaling).run(5, 60)) == {0}


def test_a_long_list_is_divided_by_the_target_and_replicas_double_at_most_in_a_period() -> None:
    cluster = Cluster(replicas=1)

    history = cluster.run(12, 120)
    assert history[0] == 2
    assert max(history[:30]) == 2
    assert history[-1] == 6


def test_there_are_never_more_than_the_most() -> None:
    assert max(Cluster(replicas=4).run(1000, 200)) == 8


def test_fewer_come_only_after_the_window_and_one_in_a_period() -> None:
    cluster = Cluster(replicas=4)
    cluster.run(8, 30)

    history = cluster.run(1, 260)
    assert set(history[:90]) == {4}
    assert history[-1] == 1
    drops = [second for second in range(1, 260) if history[second] < history[second - 1]]
    assert all(later - earlier >= 60 for earlier, later in pairwise(drops))


def test_a_short_burst_within_the_window_keeps_the_replicas() -> None:
    cluster = Cluster(replicas=4)
    for _ in range(6):
        cluster.run(8, 30)
        assert set(cluster.run(0, 50)) == {4}


def test_zero_comes_at_once_when_nothing_has_been_seen_for_the_cooldown() -> None:
    scaling = replace(SCALING, down_window_s=600)
    cluster = Cluster(scaling, replicas=5)
    cluster.run(10, 20)

    history = cluster.run(0, 70)
    assert set(history[:50]) == {5}
    assert history[-1] == 0


def test_the_least_is_kept() -> None:
    assert Cluster(replace(SCALING, least=2), replicas=2).run(0, 300)[-1] == 2


def test_without_an_answer_there_is_the_fallback_after_some_failures() -> None:
    cluster = Cluster(replicas=1)

    history = cluster.run(None, 20)
    assert history[9] == 1
    assert history[-1] == 3


def test_values_near_the_target_change_nothing() -> None:
    assert wanted_replicas(8.7, 2.0, 4) == 4
    assert wanted_replicas(9.0, 2.0, 4) == 5
    assert wanted_replicas(7.3, 2.0, 4) == 4
    assert wanted_replicas(0.0, 2.0, 4) == 0


def test_the_most_wanting_trigger_counts() -> None:
    scaling = replace(SCALING, triggers=[LIST, Trigger("prometheus", 0.7, 0.01, {"query": "busy"})])
    autoscaler = Autoscaler(scaling)
    autoscaler.replicas({"q": 0, "busy": 0}, 2, 0.0)

    assert autoscaler.replicas({"q": 2, "busy": 2.0}, 2, 15.0) == 3
