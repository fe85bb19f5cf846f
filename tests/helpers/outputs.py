"""Outputs of a worker, made by hand, for tests of what the gateway does with them."""

from collections.abc import Mapping, Sequence

import numpy as np

from shared.results import Output, Ragged, Truncation


def output(
    values: Sequence[float] | Sequence[Sequence[float]], *, tokens: int = 7, truncated: int = 0, scoring: str = ""
) -> Output:
    """An output with these vectors or scores."""
    array = np.array(values, dtype="<f4")
    return Output(shape=array.shape, data=array.tobytes(), tokens=tokens, truncated=truncated, scoring=scoring)


def hybrid_output(
    *,
    dense: Sequence[Sequence[float]] = (),
    sparse: Sequence[Mapping[int, float]] = (),
    multivector: Sequence[Sequence[Sequence[float]]] = (),
    tokens: int = 7,
    truncations: Sequence[Truncation] = (),
) -> Output:
    """An output with some kinds of vectors: sparse ones by vocabulary entry, multi-vectors by token."""
    rows = np.array(dense, "<f4") if dense else np.empty((len(sparse) or len(multivector), 0), "<f4")
    return Output(
        shape=rows.shape,
        data=rows.tobytes(),
        tokens=tokens,
        truncated=len(truncations),
        truncations=tuple(truncations),
        sparse=Ragged(
            counts=np.array([len(entry) for entry in sparse], "<i4").tobytes(),
            values=np.array([value for entry in sparse for value in entry.values()], "<f4").tobytes(),
            width=1,
            indices=np.array([index for entry in sparse for index in entry], "<i4").tobytes(),
        )
        if sparse
        else None,
        multivector=Ragged(
            counts=np.array([len(matrix) for matrix in multivector], "<i4").tobytes(),
            values=np.array([row for matrix in multivector for row in matrix], "<f4").tobytes(),
            width=len(multivector[0][0]),
        )
        if multivector
        else None,
    )
