"""Turns: nobody waits for all of another's request, and nothing is lost on the way."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from api.turns import Turns


@dataclass(frozen=True)
class Part:
    request: int
    number: int
    tokens: int
    is_given_up: bool = False


@st.composite
def requests(draw: st.DrawFn, *, most_parts: int = 5) -> list[list[Part]]:
    rows = draw(
        st.lists(st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=most_parts), max_size=12)
    )
    return [
        [Part(request, number, tokens, given_up) for number, (tokens, given_up) in enumerate(parts)]
        for request, parts in enumerate(rows)
    ]


def _turns(waiting: list[list[Part]]) -> Turns[Part]:
    turns = Turns[Part]()
    for parts in waiting:
        turns.add(parts)
    return turns


def _taken(turns: Turns[Part], budget: int) -> list[list[Part]]:
    tasks = []
    while turns:
        tasks.append(turns.take(budget))
    return [task for task in tasks if task]


@given(requests(), st.integers(0, 400))
def test_each_part_that_somebody_waits_for_is_taken_once_and_in_its_requests_order(
    waiting: list[list[Part]], budget: int
) -> None:
    taken = [part for task in _taken(_turns(waiting), budget) for part in task]

    for number, parts in enumerate(waiting):
        assert [part for part in taken if part.request == number] == [part for part in parts if not part.is_given_up]


@given(requests(), st.integers(0, 400))
def test_a_task_is_within_the_budget_and_no_smaller_than_it_has_to_be(waiting: list[list[Part]], budget: int) -> None:
    tasks = _taken(_turns(waiting), budget)

    for task in tasks:
        assert len(task) == 1 or sum(part.tokens for part in task) <= budget
    for task, following in pairwise(tasks):
        assert sum(part.tokens for part in task) + following[0].tokens > budget


@given(requests(most_parts=1))
def test_requests_of_one_part_leave_in_order_of_arrival(waiting: list[list[Part]]) -> None:
    taken = [part.request for task in _taken(_turns(waiting), 100) for part in task]

    assert taken == sorted(taken)


def test_a_small_request_behind_a_large_one_waits_for_one_of_its_parts() -> None:
    # Given a request of a hundred batches, of which one has left
    turns = _turns([[Part(0, number, 1000) for number in range(100)]])
    turns.take(1000)

    # When a search comes
    turns.add([Part(1, 0, 10)])

    # Then it is in the next task but one
    assert [part.request for part in turns.take(1000)] == [0]
    assert turns.take(1000)[0].request == 1


def test_without_a_budget_each_part_is_a_task_of_its_own() -> None:
    assert [len(task) for task in _taken(_turns([[Part(0, 0, 3)], [Part(1, 0, 3)]]), 0)] == [1, 1]


@given(requests(), st.integers(0, 400))
def test_what_waits_is_counted_to_the_last_token(waiting: list[list[Part]], budget: int) -> None:
    turns = _turns(waiting)
    assert turns.tokens == sum(part.tokens for parts in waiting for part in parts)

    while turns:
        before, taken = turns.tokens, turns.take(budget)
        assert before - turns.tokens >= sum(part.tokens for part in taken)

    assert turns.tokens == 0
