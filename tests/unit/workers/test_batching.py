"""Lanes: budgets are kept, nobody starves, nothing is lost."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.queues import Lane
from workers.batching import BULK_SHARE, QUIET_S, Lanes

MAX, BULK_MAX, AGING_S = 100, 40, 2.0


@dataclass(frozen=True)
class Entry:
    number: int
    lane: Lane
    tokens: int
    arrived_at: float


def _lanes(max_batch_tokens: int = MAX, bulk_batch_tokens: int = BULK_MAX) -> Lanes[Entry]:
    return Lanes(max_batch_tokens=max_batch_tokens, bulk_batch_tokens=bulk_batch_tokens, aging_s=AGING_S)


def _fill(lanes: Lanes[Entry], entries: list[Entry]) -> None:
    for entry in entries:
        lanes.add(entry.lane, [entry])


def _entries(lane: Lane, tokens: list[int], *, arrived_at: float = 0.0) -> list[Entry]:
    return [Entry(number, lane, count, arrived_at) for number, count in enumerate(tokens)]


@st.composite
def waiting(draw: st.DrawFn, *, longest: int = 130) -> list[Entry]:
    """Items of both lanes in order of arrival, some longer than a whole batch."""
    rows = draw(st.lists(st.tuples(st.sampled_from(Lane), st.integers(1, longest), st.floats(0, 1)), max_size=40))
    now, entries = 0.0, []
    for number, (lane, tokens, step) in enumerate(rows):
        now += step
        entries.append(Entry(number, lane, tokens, now))
    return entries


CLOCKS = st.lists(st.floats(0, 60), min_size=200, max_size=200)


def _drain(lanes: Lanes[Entry], clocks: list[float]) -> list[list[Entry]]:
    batches = []
    for now in clocks:
        if not len(lanes):
            return batches
        batches.append(lanes.take(now))
    raise AssertionError("the lanes were not empty after 200 batches")


@given(waiting(), st.integers(1, MAX), CLOCKS)
def test_nothing_is_lost_and_nothing_runs_twice(entries: list[Entry], bulk_max: int, clocks: list[float]) -> None:
    # Given
    lanes = _lanes(bulk_batch_tokens=bulk_max)
    _fill(lanes, entries)

    # When everything is taken, at whatever times
    batches = _drain(lanes, clocks)

    # Then
    assert Counter(entry for batch in batches for entry in batch) == Counter(entries)
    assert all(batches), "an empty batch was taken while items waited"


@given(waiting(), st.integers(1, MAX), CLOCKS)
def test_a_batch_is_within_the_budget_unless_it_is_a_single_item(
    entries: list[Entry], bulk_max: int, clocks: list[float]
) -> None:
    lanes = _lanes(bulk_batch_tokens=bulk_max)
    _fill(lanes, entries)

    for batch in _drain(lanes, clocks):
        assert len(batch) == 1 or sum(entry.tokens for entry in batch) <= MAX


@given(waiting(), st.integers(1, MAX), CLOCKS)
def test_within_a_lane_the_order_of_arrival_is_kept(entries: list[Entry], bulk_max: int, clocks: list[float]) -> None:
    lanes = _lanes(bulk_batch_tokens=bulk_max)
    _fill(lanes, entries)

    taken = [entry for batch in _drain(lanes, clocks) for entry in batch]

    for lane in Lane:
        numbers = [entry.number for entry in taken if entry.lane is lane]
        assert numbers == sorted(numbers)


@given(waiting())
def test_while_no_bulk_has_aged_interactive_fills_the_batch_first(entries: list[Entry]) -> None:
    # Given work that has just arrived
    fresh = [Entry(entry.number, entry.lane, entry.tokens, 0.0) for entry in entries]
    lanes = _lanes()
    _fill(lanes, fresh)

    while len(lanes):
        # When
        interactive = [entry for entry in fresh if entry.lane is Lane.INTERACTIVE]
        batch = lanes.take(now=0.0)

        # Then bulk is there only if what waits next in the interactive lane does not fit any more
        taken = [entry for entry in batch if entry.lane is Lane.INTERACTIVE]
        assert taken == interactive[: len(taken)]
        left = interactive[len(taken) :]
        if left:
            assert sum(entry.tokens for entry in taken) + left[0].tokens > MAX
        fresh = [entry for entry in fresh if entry not in batch]


@given(waiting(longest=60))
def test_bulk_tops_a_batch_up_to_its_own_bound_only(entries: list[Entry]) -> None:
    # Given work that has just arrived
    lanes = _lanes()
    _fill(lanes, [Entry(entry.number, entry.lane, entry.tokens, 0.0) for entry in entries])

    while len(lanes):
        batch = lanes.take(now=0.0)
        if any(entry.lane is Lane.BULK for entry in batch) and len(batch) > 1:
            assert sum(entry.tokens for entry in batch) <= BULK_MAX


def test_an_item_longer_than_the_budget_runs_alone() -> None:
    lanes = _lanes()
    _fill(lanes, _entries(Lane.INTERACTIVE, [5, 500, 5]))

    assert [[entry.tokens for entry in lanes.take(0.0)] for _ in range(3)] == [[5], [500], [5]]


def test_interactive_work_does_not_wait_for_bulk_that_came_before_it() -> None:
    # Given a long bulk queue, and one interactive item behind it
    lanes = _lanes()
    _fill(lanes, _entries(Lane.BULK, [20] * 50))
    _fill(lanes, [Entry(99, Lane.INTERACTIVE, 30, 1.0)])

    # When
    batch = lanes.take(now=1.0)

    # Then it is in the next batch, which bulk has not made longer than its bound
    assert batch[0].number == 99
    assert sum(entry.tokens for entry in batch) <= BULK_MAX


def test_aged_bulk_gets_its_share_of_a_full_batch_and_no_more() -> None:
    # Given endless interactive work and bulk that has waited too long
    lanes = _lanes()
    _fill(lanes, _entries(Lane.INTERACTIVE, [5] * 100))
    _fill(lanes, _entries(Lane.BULK, [5] * 100))

    # When
    batch = lanes.take(now=AGING_S)

    # Then
    tokens = Counter[Lane]()
    for entry in batch:
        tokens[entry.lane] += entry.tokens
    assert tokens[Lane.BULK] == MAX * BULK_SHARE
    assert tokens[Lane.INTERACTIVE] == MAX - MAX * BULK_SHARE


@settings(max_examples=200)
@given(
    bulk_tokens=st.integers(1, 150),
    bulk_max=st.integers(1, MAX),
    interactive_tokens=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_aged_bulk_of_any_length_is_served_within_a_bounded_number_of_batches(
    bulk_tokens: int, bulk_max: int, interactive_tokens: list[int]
) -> None:
    # Given one bulk item that has aged, and interactive work that never ends
    lanes = _lanes(bulk_batch_tokens=bulk_max)
    bulk = Entry(0, Lane.BULK, bulk_tokens, 0.0)
    lanes.add(Lane.BULK, [bulk])
    # A tenth of each batch is its share: so many batches later it has been given its own length.
    bound = 2 + 2 * int(bulk_tokens / (MAX * BULK_SHARE))

    # When
    served_after = None
    for number in range(bound):
        lanes.add(Lane.INTERACTIVE, [Entry(1, Lane.INTERACTIVE, tokens, 1.0) for tokens in interactive_tokens * MAX])
        if bulk in lanes.take(now=AGING_S + 1):
            served_after = number
            break

    # Then
    assert served_after is not None, f"{bound} batches have passed it over"


def test_bulk_batches_are_larger_while_nobody_searches() -> None:
    # Given bulk work that never ends, and one search
    lanes = _lanes()
    lanes.quiet_bulk_tokens = 2 * BULK_MAX
    lanes.add(Lane.BULK, _entries(Lane.BULK, [1] * 10 * MAX))

    def tokens_taken(now: float) -> int:
        return sum(entry.tokens for entry in lanes.take(now))

    # Then a batch is larger until the search comes, and again once it has been quiet for long enough
    assert tokens_taken(0.0) == 2 * BULK_MAX
    lanes.add(Lane.INTERACTIVE, _entries(Lane.INTERACTIVE, [1], arrived_at=1.0))
    assert tokens_taken(1.0) == 1, "the search has a batch to itself"
    assert tokens_taken(1.0) == BULK_MAX
    assert tokens_taken(1.0 + 0.9 * QUIET_S) == BULK_MAX
    assert tokens_taken(1.0 + QUIET_S) == 2 * BULK_MAX


@given(st.lists(st.integers(1, 40), min_size=20, max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_aged_bulk_does_not_take_the_batch_away_from_interactive_work(
    bulk_tokens: list[int], interactive_tokens: list[int]
) -> None:
    # Given both lanes full, all bulk aged
    lanes = _lanes(bulk_batch_tokens=MAX)
    _fill(lanes, _entries(Lane.BULK, bulk_tokens))
    served = Counter[Lane]()

    # When a few batches have run
    for _ in range(5):
        lanes.add(Lane.INTERACTIVE, [Entry(1, Lane.INTERACTIVE, tokens, 1.0) for tokens in interactive_tokens * MAX])
        for entry in lanes.take(now=AGING_S + 1):
            served[entry.lane] += entry.tokens

    # Then interactive work had most of them
    assert served[Lane.INTERACTIVE] >= served[Lane.BULK]


def test_the_model_whose_oldest_due_item_has_waited_longest_is_the_most_urgent() -> None:
    # Given three models: one idle, one with interactive work, one with bulk that came earlier
    idle, interactive, bulk = _lanes(), _lanes(), _lanes()
    interactive.add(Lane.INTERACTIVE, _entries(Lane.INTERACTIVE, [5], arrived_at=3.0))
    bulk.add(Lane.BULK, _entries(Lane.BULK, [5], arrived_at=0.5))

    # Then bulk is due when it has aged, which is before the other came
    assert bulk.urgency() < interactive.urgency() < idle.urgency()
    assert (bulk.urgency(), interactive.urgency()) == (0.5 + AGING_S, 3.0)


def test_bulk_that_has_not_aged_is_less_urgent_than_interactive_work_that_comes_later() -> None:
    interactive, bulk = _lanes(), _lanes()
    interactive.add(Lane.INTERACTIVE, _entries(Lane.INTERACTIVE, [5], arrived_at=1.9))
    bulk.add(Lane.BULK, _entries(Lane.BULK, [5], arrived_at=0.0))

    assert interactive.urgency() < bulk.urgency()
