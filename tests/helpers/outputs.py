"""Outputs of a worker, made by hand, for tests of what the gateway does with them."""

from collections.abc import Sequence

import numpy as np

from shared.results import Output


def output(values: Sequence[float] | Sequence[Sequence[float]], *, tokens: int = 7, truncated: int = 0) -> Output:
    """An output with these vectors or scores."""
    array = np.array(values, dtype="<f4")
    return Output(shape=array.shape, data=array.tobytes(), tokens=tokens, truncated=truncated)
