"""LeaseWatch: who is dead is decided by repeated looks, and an outage of Redis kills nobody."""

from hypothesis import given
from hypothesis import strategies as st

from shared import leases
from shared.leases import GRACE_S, LeaseWatch


def test_a_worker_whose_lease_has_ended_is_dead_after_the_grace() -> None:
    watch = LeaseWatch()

    assert watch.observe({"w": 1000}, server_now=1000, now=0.0) == []
    assert watch.observe({"w": 1000}, server_now=1500, now=GRACE_S / 2) == []
    assert watch.observe({"w": 1000}, server_now=2000, now=GRACE_S) == ["w"]


def test_a_worker_that_renews_within_the_grace_is_alive_and_starts_afresh() -> None:
    # Given a lease seen ended
    watch = LeaseWatch()
    watch.observe({"w": 1000}, server_now=1100, now=0.0)

    # When it is renewed, and ends again
    watch.observe({"w": 3000}, server_now=1200, now=0.1)

    # Then the grace begins anew
    assert watch.observe({"w": 3000}, server_now=3100, now=GRACE_S) == []
    assert watch.observe({"w": 3000}, server_now=3200, now=2 * GRACE_S) == ["w"]


def test_after_an_outage_every_ended_lease_gets_its_grace_again() -> None:
    # Given two looks, between which Redis was away
    watch = LeaseWatch()
    watch.observe({"w": 1000}, server_now=1100, now=0.0)
    watch.forget()

    # Then
    assert watch.observe({"w": 1000}, server_now=9000, now=5.0) == []


def test_a_recovered_worker_is_forgotten() -> None:
    # Given
    watch = LeaseWatch()
    watch.observe({"w": 0}, server_now=1, now=0.0)

    # When it has left the set, and a worker of the same name comes and goes
    watch.observe({}, server_now=1, now=0.5)

    # Then
    assert watch.observe({"w": 0}, server_now=1, now=GRACE_S) == []


LOOKS = st.lists(
    st.tuples(st.floats(0.05, 3.0), st.dictionaries(st.sampled_from("abc"), st.integers(0, 20_000))), max_size=15
)


@given(LOOKS)
def test_a_live_worker_is_never_called_dead_and_a_dead_one_was_watched_for_the_grace(
    looks: list[tuple[float, dict[str, float]]],
) -> None:
    watch, now, ended_since = LeaseWatch(), 0.0, dict[str, float]()
    for step, lease_ends in looks:
        # When
        now += step
        dead = watch.observe(lease_ends, server_now=10_000, now=now)

        # Then
        ended = {worker for worker, end in lease_ends.items() if end <= 10_000}
        ended_since = {worker: ended_since.get(worker, now) for worker in ended}
        assert set(dead) == {worker for worker, since in ended_since.items() if now - since >= GRACE_S}


def test_a_lease_outlives_several_missed_renewals() -> None:
    assert leases.LEASE_TTL_S >= 4 * leases.RENEW_INTERVAL_S
