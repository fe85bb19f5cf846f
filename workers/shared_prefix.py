"""Shared prefixes: in a causal model equal prefixes have equal states, so a batch computes each of them once, exactly.

A reranker's template and query begin each of its sequences, an instruction begins each query. Embeddings, norms,
projections and feed-forward layers run on the distinct (prefix, token) nodes of the batch; attention alone sees the full
sequences, by an index that expands queries, keys and values and another that takes the rows back (arXiv 2601.15013).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.sequences import Sequences

Int64Array = npt.NDArray[np.int64]

#: Below this share of repeated tokens the indexing costs more than it saves.
LEAST_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """The nodes of a batch."""

    #: For each token of the batch its node, shape (total,).
    expand: Int64Array
    #: For each node one token that it stands for, shape (nodes,).
    compact: Int64Array


def shared_prefix(sequences: Sequences, least_share: float = LEAST_SHARE) -> SharedPrefix | None:
    """The nodes of a batch, or None where fewer than `least_share` of its tokens repeat another's prefix.

    Neighbours in the lexical order of the sequences share the longest prefixes, so each is compared with the one before.
    """
    lengths = sequences.lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    rows = [sequences.ids[start:end] for start, end in zip(starts, ends, strict=True)]
    # Big-endian bytes compare as the numbers do.
    order = sorted(range(len(rows)), key=lambda index: rows[index].astype(">i4").tobytes())
    expand = np.empty(len(sequences.ids), np.int64)
    compact: list[Int64Array] = []
    nodes = 0
    before = -1
    for index in order:
        common = _common(rows[before], rows[index]) if before >= 0 else 0
        start, end = int(starts[index]), int(ends[index])
        if common:
            expand[start : start + common] = expand[starts[before] : starts[before] + common]
        expand[start + common : end] = np.arange(nodes, nodes + end - start - common)
        compact.append(np.arange(start + common, end))
        nodes += end - start - common
        before = index
    if nodes > (1 - least_share) * len(sequences.ids):
        return None
    return SharedPrefix(expand, np.concatenate(compact))


def _common(one: npt.NDArray[np.int32], other: npt.NDArray[np.int32]) -> int:
    """Length of the longest common prefix."""
    shorter = min(len(one), len(other))
    differ = np.nonzero(one[:shorter] != other[:shorter])[0]
    return int(differ[0]) if len(differ) else shorter
