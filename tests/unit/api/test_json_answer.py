"""Answers in pieces: together they are what would have been written at once."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import json_answer, wire

LEAVES = st.none() | st.integers(-9, 9) | st.text(max_size=200) | st.just(np.arange(7, dtype="<f4"))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=6))


@given(VALUES, st.integers(1, 9))
def test_the_pieces_of_an_answer_are_the_whole(value: Any, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_answer, "_PIECE", size)

        assert b"".join(json_answer.pieces(value)) == wire.dumps(value)


def test_no_piece_takes_long() -> None:
    matrices = [np.ones((300, 128), "<f4"), np.ones((2, 128), "<f4"), np.ones(100_000, "<f4")]
    answer = {"data": [{"index": index, "embeddings": matrix} for index, matrix in enumerate(matrices)]}

    pieces = json_answer.pieces(answer)

    assert max(map(len, pieces)) <= 4 * (json_answer._PIECE + 1)
    assert json.loads(b"".join(pieces))["data"][2]["embeddings"] == [1.0] * 100_000
