"""The backlog: which models are asked for, beside how much waits for them (tests of admission have that)."""

from api.backlog import Backlog
from shared.queues import Lane


def _ask(backlog: Backlog, model: str) -> None:
    backlog.enter(model, Lane.INTERACTIVE, items=1, tokens=10)


def _answer(backlog: Backlog, model: str) -> None:
    backlog.leave(model, Lane.INTERACTIVE, items=1, tokens=10)


def test_a_request_that_comes_and_goes_between_two_looks_is_seen_once() -> None:
    backlog = Backlog("gw")
    _ask(backlog, "m")
    _answer(backlog, "m")

    assert backlog.take_asked() == {"m"}
    assert backlog.take_asked() == set()


def test_a_model_is_asked_for_as_long_as_something_waits() -> None:
    backlog = Backlog("gw")
    _ask(backlog, "m")
    _ask(backlog, "m")
    _answer(backlog, "m")

    assert backlog.take_asked() == backlog.take_asked() == {"m"}
    _answer(backlog, "m")
    assert backlog.take_asked() == set()
