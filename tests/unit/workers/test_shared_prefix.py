"""Shared prefixes: every token has the node of its prefix, and each prefix exactly one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.sequences import Sequences
from workers.shared_prefix import shared_prefix

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=8)


def _sequences(rows: list[list[int]]) -> Sequences:
    ids = np.array([token for row in rows for token in row], np.int32)
    return Sequences(ids, np.array([len(row) for row in rows], np.int32))


@given(ROWS)
def test_two_tokens_share_a_node_exactly_when_all_up_to_them_is_equal(rows: list[list[int]]) -> None:
    # When
    shared = shared_prefix(_sequences(rows), least_share=0.0)

    # Then
    assert shared is not None
    prefixes = [tuple(row[: at + 1]) for row in rows for at in range(len(row))]
    nodes = shared.expand.tolist()
    assert len(set(zip(prefixes, nodes, strict=True))) == len(set(prefixes)) == len(set(nodes)) == len(shared.compact)


@given(ROWS)
def test_each_node_is_found_again_at_the_token_that_stands_for_it(rows: list[list[int]]) -> None:
    shared = shared_prefix(_sequences(rows), least_share=0.0)

    assert shared is not None
    assert shared.expand[shared.compact].tolist() == list(range(len(shared.compact)))


def test_a_batch_with_little_to_share_is_left_alone() -> None:
    assert shared_prefix(_sequences([[1, 2, 3, 4], [1, 5, 6, 7]])) is None


def test_a_rerankers_template_is_computed_once() -> None:
    # Given 60 tokens that begin all of six sequences
    rows = [[*range(10, 70), 100 + number, *range(5)] for number in range(6)]

    shared = shared_prefix(_sequences(rows))

    assert shared is not None
    assert len(shared.compact) == 60 + 6 * 6
