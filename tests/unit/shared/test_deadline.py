"""Deadlines: absolute times that mean the same in two processes."""

import time
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from shared import deadline


def test_a_deadline_lies_as_far_ahead_as_the_timeout_says() -> None:
    before = time.time()
    ends = deadline.after(5.0)

    assert before + 5.0 <= ends <= time.time() + 5.0
    assert 4.0 < deadline.remaining_s(ends) <= 5.0


def test_a_deadline_that_has_passed_has_less_than_nothing_left() -> None:
    assert deadline.remaining_s(time.time() - 1) < 0


@given(st.floats(min_value=0, max_value=4e9))
def test_the_expires_header_is_the_same_instant_in_utc(ends: float) -> None:
    parsed = datetime.fromisoformat(deadline.isoformat(ends))

    assert parsed.utcoffset() is not None
    assert abs(parsed.timestamp() - ends) < 1e-5
