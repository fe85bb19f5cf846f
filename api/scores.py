"""Scores of documents as callers read them: between 0 and 1 unless they asked for the model's own, in the order of those."""

import numpy as np
import numpy.typing as npt

from api import wire
from shared import arrays
from shared.results import Output

Float32Array = npt.NDArray[np.float32]


def shown(output: Output) -> Float32Array:
    """The scores of a rerank request, shape (documents,).

    Cosines and means of late interaction are cut at 0, below which vectors have nothing in common. A dot product x
    has no upper bound: it becomes x / (1 + x).
    """
    scores = arrays.rows(output)
    if not output.scoring:
        return scores
    if output.scoring == "dot":
        positive = np.maximum(scores, 0).astype(np.float64)
        ratios: Float32Array = (positive / (1 + positive)).astype(np.float32)
        return ratios
    # At 1 too, which rounding can leave behind.
    bounded: Float32Array = np.clip(scores, 0, 1)
    return bounded


def ranked(output: Output, best: int | None) -> list[tuple[int, np.float32]]:
    """(index, score as shown) best first, by the model's own scores, ties in the order of the documents.

    Args:
        output: Of a rerank request.
        best: How many; None, not positive or too many mean all.
    """
    scores = shown(output)
    return [(index, scores[index]) for index, _ in wire.ranking(arrays.rows(output), best)]
