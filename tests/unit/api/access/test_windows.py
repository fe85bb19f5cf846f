"""Sliding windows: what is left, and when to come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.access.windows import Window


def _window(previous: int, previous_ttl_s: float, current: int, current_ttl_s: float) -> Window:
    return Window(100, 60.0, previous, previous_ttl_s, current, current_ttl_s)


def _later(window: Window, seconds: float) -> Window:
    """The same window after some time in which nothing was taken, as Redis has it."""
    current_ttl_s = window.current_ttl_s - seconds
    if current_ttl_s >= window.length_s:
        ttl_s = max(0.0, window.previous_ttl_s - seconds)
        return Window(window.limit, window.length_s, window.previous, ttl_s, window.current, current_ttl_s)
    return Window(window.limit, window.length_s, window.current, max(0.0, current_ttl_s), 0, 0.0)


def test_an_unused_window_has_all_of_its_limit() -> None:
    window = _window(0, 0, 0, 0)

    assert (window.taken, window.remaining, window.reset_s, window.wait_s(100)) == (0, 100, 0, 0.0)


def test_half_of_the_window_before_counts_half_way_through_this_one() -> None:
    assert _window(80, 30.0, 10, 90.0).taken == 50


@pytest.mark.parametrize(
    ("window", "cost", "seconds"),
    [
        (_window(100, 60.0, 0, 120.0), 1, 0.0),  # 98.99 of 100 would leave one: 100 * ttl / 60 < 100 at once
        (_window(100, 60.0, 0, 120.0), 50, 29.4),
        (_window(0, 0.0, 100, 120.0), 1, 60.0),
        (_window(0, 0.0, 100, 120.0), 100, 119.4),
    ],
)
def test_the_wait_is_until_enough_has_left_the_window(window: Window, cost: int, seconds: float) -> None:
    assert window.wait_s(cost) == pytest.approx(seconds)


@given(
    st.integers(0, 100),
    st.floats(0, 60),
    st.integers(0, 100),
    st.integers(1, 100),
)
def test_who_waits_so_long_is_let_in(previous: int, ttl_s: float, current: int, cost: int) -> None:
    window = _window(previous, ttl_s, current, 60.0 + ttl_s)

    later = _later(window, window.wait_s(cost) + 1e-6)

    assert later.remaining >= cost
    assert window.wait_s(cost) <= 120.0


@given(st.integers(0, 100), st.floats(0, 60), st.integers(0, 100))
def test_what_is_left_and_what_is_taken_are_within_the_limit(previous: int, ttl_s: float, current: int) -> None:
    window = _window(previous, ttl_s, current, 60.0 + ttl_s)

    assert 0 <= window.remaining <= 100
    assert window.remaining == max(0, 100 - window.taken)
    assert _later(window, window.reset_s).taken == 0
