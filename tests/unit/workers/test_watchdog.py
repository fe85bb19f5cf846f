"""What a standstill is, and what it is not."""

from workers.watchdog import Standstill


def test_work_that_waits_while_nothing_moves_is_a_standstill() -> None:
    standstill = Standstill()

    assert standstill.observe(7, is_waiting=True, now=100.0) == 0
    assert standstill.observe(7, is_waiting=True, now=101.0) == 1
    assert standstill.observe(7, is_waiting=True, now=140.0) == 40


def test_any_move_ends_it() -> None:
    standstill = Standstill()
    standstill.observe(7, is_waiting=True, now=100.0)

    assert standstill.observe(8, is_waiting=True, now=140.0) == 0
    assert standstill.observe(8, is_waiting=True, now=141.0) == 1


def test_idleness_is_none() -> None:
    standstill = Standstill()
    standstill.observe(7, is_waiting=False, now=100.0)

    assert standstill.observe(7, is_waiting=False, now=900.0) == 0
    # The first message after a long silence is not late yet.
    assert standstill.observe(7, is_waiting=True, now=901.0) == 0
