"""Padded batches: groups of similar lengths, and every token back in its place."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.padded import pad, places, similar_lengths
from workers.sequences import Sequences

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)


def _sequences(lengths: list[int]) -> Sequences:
    return Sequences(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, np.int32))


@given(LENGTHS)
def test_the_groups_hold_every_sequence_once_and_little_padding(lengths: list[int]) -> None:
    array = np.array(lengths, np.int32)

    order, groups = similar_lengths(array, CPU)

    assert sorted(order) == list(range(len(lengths)))
    assert [at for group in groups for at in range(*group.indices(len(order)))] == list(range(len(order)))
    for group in groups:
        grouped = array[order[group]]
        area = int(grouped.max()) * len(grouped)
        assert area - grouped.sum() <= max(0.2 * area, 64)


def test_equal_lengths_are_one_rectangle_and_a_lone_long_text_one_of_its_own() -> None:
    assert len(similar_lengths(np.full(50, 7, np.int32), CPU)[1]) == 1
    assert len(similar_lengths(np.array([5, 7, 9], np.int32), CPU)[1]) == 1, (
        "a forward pass costs more than this padding"
    )
    assert len(similar_lengths(np.array([9, 256, 9, 9], np.int32), CPU)[1]) == 2


@given(LENGTHS, st.data())
def test_what_must_not_share_a_group_does_not(lengths: list[int], data: st.DataObject) -> None:
    array = np.array(lengths, np.int32)
    kinds = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths))))

    order, groups = similar_lengths(array, CPU, batching="equal_lengths", apart=kinds)
    alone = similar_lengths(array, CPU, batching="none")[1]

    assert sorted(order) == list(range(len(lengths)))
    shared = [{(lengths[at], int(kinds[at])) for at in order[group]} for group in groups]
    assert all(len(of_group) == 1 for of_group in shared)
    assert len(groups) == len(set(zip(lengths, kinds.tolist(), strict=True)))
    assert len(alone) == len(lengths)


@given(LENGTHS)
def test_tokens_come_back_to_their_places(lengths: list[int]) -> None:
    sequences = _sequences(lengths)
    order, groups = similar_lengths(sequences.lengths, CPU)

    computed = []
    for group in groups:
        padded = pad(sequences.only(order[group]), 0, CPU, types=False)
        computed.append(padded["input_ids"][padded["attention_mask"].bool()])

    back = torch.cat(computed)[torch.from_numpy(places(sequences.lengths, order))]
    assert back.tolist() == sequences.ids.tolist()


@given(LENGTHS, st.integers(0, 20))
def test_padding_goes_in_front_where_the_model_wants_it(lengths: list[int], more: int) -> None:
    sequences = _sequences(lengths)
    width = max(lengths) + more

    padded = pad(sequences, 0, CPU, types=False, width=width, left=True)

    assert padded["input_ids"].shape == (len(lengths), width)
    assert padded["attention_mask"][:, -1].all()
    assert padded["input_ids"][padded["attention_mask"].bool()].tolist() == sequences.ids.tolist()
