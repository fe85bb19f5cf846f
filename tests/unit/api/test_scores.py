"""Scores as callers read them: between 0 and 1, in the order of the model's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import scores
from tests.helpers.outputs import output


@pytest.mark.parametrize(
    ("scoring", "own", "shown"),
    [
        ("", [-3.0, 0.5, 28589.0], [-3.0, 0.5, 28589.0]),
        ("cosine", [-0.25, 0.5, 1.0000001], [0.0, 0.5, 1.0]),
        ("maxsim", [-0.25, 0.5], [0.0, 0.5]),
        ("mean_maxsim", [-0.25, 0.5], [0.0, 0.5]),
        ("dot", [0.0, 1.0, 3.0], [0.0, 0.5, 0.75]),
    ],
)
def test_what_is_not_between_0_and_1_is_brought_there(scoring: str, own: list[float], shown: list[float]) -> None:
    np.testing.assert_allclose(scores.shown(output(own, scoring=scoring)), shown, rtol=1e-6)


@given(
    st.lists(st.floats(-2, 2, width=32) | st.floats(0, 2**20, width=32), min_size=1, max_size=20),
    st.sampled_from(["cosine", "dot"]),
)
def test_the_order_is_that_of_the_models_own_scores_also_where_two_are_shown_alike(
    own: list[float], scoring: str
) -> None:
    ranked = scores.ranked(output(own, scoring=scoring), None)

    assert [index for index, _ in ranked] == sorted(range(len(own)), key=lambda index: (-np.float32(own[index]), index))
    shown = [score for _, score in ranked]
    assert shown == sorted(shown, reverse=True)
    assert 0 <= shown[-1] <= shown[0] <= 1
