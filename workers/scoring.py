"""From rows of numbers to scores: logits, similarities of vectors, label probabilities. float32, or better, throughout."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.model_card import ModelCard
from shared.results import Kind
from workers.rows import Piece, stacked

Float32Array = npt.NDArray[np.float32]

#: What makes a score by itself; cosines and dot products are those of the one vector that a model makes of a text.
_KINDS = {"logit": Kind.SCORES, "maxsim": Kind.MULTIVECTOR, "mean_maxsim": Kind.MULTIVECTOR}


def kind_of(card: ModelCard) -> Kind:
    """What a model has to make of query and documents to score them."""
    return _KINDS.get(card.scoring, Kind.DENSE if Kind.DENSE in card.kinds else Kind.SPARSE)


def scores(card: ModelCard, pieces: Sequence[Piece], *, raw: bool) -> Float32Array:
    """Scores of a rerank request, shape (documents,).

    Args:
        card: Says how the model scores.
        pieces: Logits of each pair; or the vectors of the query, then those of each document.
        raw: Scores as the model gives them, instead of the sigmoid of a logit and the mean of late interaction.
    """
    if card.scoring == "logit":
        logits = np.array([piece.values[0] for piece in pieces], np.float32)
        return logits if raw else sigmoid(logits)
    query, documents = pieces[0], pieces[1:]
    if kind_of(card) == Kind.SPARSE:
        dots = np.array([_sparse_dot(query, document) for document in documents], np.float32)
        if card.scoring == "dot":
            return dots
        lengths = np.array([_length(document) for document in documents], np.float32)
        cosines: Float32Array = dots / np.maximum(lengths * np.float32(_length(query)), np.float32(1e-12))
        return cosines
    if kind_of(card) == Kind.DENSE:
        one, others = stacked([query]), stacked(documents)
        if card.scoring == "cosine":
            one, others = normalized(one), normalized(others)
        similarities: Float32Array = others @ one[0]
        return similarities
    best = np.array([_best(query, document) for document in documents], np.float32)
    # The mean is at most 1 for unit vectors; the sum is what ColBERT publishes.
    as_mean = card.scoring == "mean_maxsim" or not raw
    return best / np.float32(len(query.values)) if as_mean else best


def label_scores(card: ModelCard, logits: Float32Array, *, raw: bool) -> Float32Array:
    """Scores of each label, shape (items, labels): the logits, or their softmax or sigmoid as the model's files say."""
    if raw:
        return logits
    if card.activation == "sigmoid":
        return sigmoid(logits)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Float32Array = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def normalized(rows: Float32Array) -> Float32Array:
    """Rows scaled to unit Euclidean length; like torch's `normalize`, a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
    unit: Float32Array = rows / np.maximum(norms, 1e-12)[:, None]
    return unit


def sigmoid(logits: Float32Array) -> Float32Array:
    """1 / (1 + exp(-x)), written as exp(-log(1 + exp(-x))): without overflow at either end."""
    values: Float32Array = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64))).astype(np.float32)
    return values


def _best(query: Piece, document: Piece) -> float:
    """Late interaction (Khattab and Zaharia 2020): for each vector of the query its best match, summed."""
    if not len(document.values):
        return 0.0  # nothing in it takes part
    return float((query.values @ document.values.T).max(axis=1).sum())


def _length(row: Piece) -> float:
    return float(np.sqrt(np.square(row.values).sum()))


def _sparse_dot(query: Piece, document: Piece) -> float:
    if query.indices is None or document.indices is None:
        raise ValueError("sparse rows have indices")
    _, mine, theirs = np.intersect1d(query.indices, document.indices, assume_unique=True, return_indices=True)
    return float(query.values[mine, 0] @ document.values[theirs, 0])
