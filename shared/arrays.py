"""The numbers of an output as arrays, without copies, and how one is written as base64."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.results import Output, Precision, Ragged

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]

#: How numpy calls the formats of quantised vectors.
_DTYPES = {
    Precision.FLOAT16: "<f2",
    Precision.INT8: "i1",
    Precision.UINT8: "u1",
    Precision.BINARY: "i1",
    Precision.UBINARY: "u1",
}


def rows(output: Output) -> Float32Array:
    """The output as an array of its shape, without a copy."""
    return np.frombuffer(output.data, dtype="<f4").reshape(output.shape)


def dense_rows(output: Output, precision: str) -> npt.NDArray[Any]:
    """Dense vectors in a precision that was asked for, one row each, without a copy."""
    if precision == Precision.FLOAT32:
        return rows(output)
    return np.frombuffer(output.quantized[precision], _DTYPES[Precision(precision)]).reshape(output.shape[0], -1)


def sparse_rows(output: Output) -> list[tuple[Int32Array, Float32Array]]:
    """The sparse vector of each item: entries of the vocabulary, shape (n,), and their weights, shape (n, 1)."""
    ragged = output.sparse
    if ragged is None or ragged.indices is None:
        raise ValueError("the output has no sparse vectors")
    indices = np.split(np.frombuffer(ragged.indices, "<i4"), _ends(ragged))
    return list(zip(indices, _values(ragged), strict=True))


def token_rows(output: Output) -> list[Float32Array]:
    """The multi-vector of each item, shape (its tokens, width)."""
    if output.multivector is None:
        raise ValueError("the output has no multi-vectors")
    return _values(output.multivector)


def _values(ragged: Ragged) -> list[Float32Array]:
    return np.split(np.frombuffer(ragged.values, "<f4").reshape(-1, ragged.width), _ends(ragged))


def _ends(ragged: Ragged) -> Int32Array:
    """Where each item but the last ends."""
    ends: Int32Array = np.cumsum(np.frombuffer(ragged.counts, "<i4"))[:-1]
    return ends


def base64_vector(row: npt.NDArray[Any]) -> str:
    """A vector as OpenAI's base64: its little-endian bytes."""
    return base64.b64encode(row.tobytes()).decode("ascii")
