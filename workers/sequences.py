"""Tokenised sequences as they travel to the engine process and into a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.tokenization import Tokens

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences, concatenated. Sorted by length they make few runs; any order is correct."""

    #: Token ids, shape (total,).
    ids: Int32Array
    #: Sequence lengths, shape (count,); their sum is `total`. An image's is 0, unless the model reads it among tokens.
    lengths: Int32Array
    #: Segment ids, shape (total,), or None when they are all 0.
    type_ids: Int32Array | None = None
    #: Which sequences are queries, shape (count,), for models that treat them differently; None when none is.
    is_query: npt.NDArray[np.bool_] | None = None
    #: Leading tokens that pooling leaves out (a prompt's), shape (count,); None when there are none.
    skip: Int32Array | None = None
    #: Late chunking: the lengths of each sequence's chunks in turn, and how many of them each sequence has, shape (count,).
    #: One that is not chunked has one chunk. None when none is.
    chunk_lengths: Int32Array | None = None
    chunk_counts: Int32Array | None = None
    #: Which of the sequences are images or have one, shape (count,); None when none does.
    is_image: npt.NDArray[np.bool_] | None = None
    #: Their pixels in that order, shape (images, ...), or for models of any number of patches (patches of all, ...); and for
    #: models of any aspect ratio rows and columns of patches, shape (images, 2).
    pixels: npt.NDArray[np.uint8] | None = None
    grids: Int32Array | None = None
    #: Where in `ids` the tokens of each image begin, shape (images,), for models that read images among tokens.
    image_starts: Int32Array | None = None

    @classmethod
    def of(cls, tokens: Sequence[Tokens]) -> "Sequences":
        """The packed arrays of some tokenised inputs, in their order."""
        total = sum(len(entry.ids) for entry in tokens)
        types = None
        if any(entry.type_ids is not None for entry in tokens):
            segments = (entry.type_ids if entry.type_ids is not None else [0] * len(entry.ids) for entry in tokens)
            types = np.fromiter(chain.from_iterable(segments), dtype=np.int32, count=total)
        return cls(
            ids=np.fromiter(chain.from_iterable(entry.ids for entry in tokens), dtype=np.int32, count=total),
            type_ids=types,
            lengths=np.fromiter((len(entry.ids) for entry in tokens), dtype=np.int32, count=len(tokens)),
            is_query=np.array([entry.is_query for entry in tokens])
            if any(entry.is_query for entry in tokens)
            else None,
            skip=np.array([entry.skip for entry in tokens], np.int32) if any(entry.skip for entry in tokens) else None,
            **_chunks(tokens),
            **_images(tokens),
        )

    def only(self, which: npt.NDArray[np.int64]) -> "Sequences":
        """Ids, lengths and segments of some of the sequences, in the given order."""
        tokens = token_positions(self.lengths, which)
        types = None if self.type_ids is None else self.type_ids[tokens]
        return Sequences(self.ids[tokens], self.lengths[which], types)


def token_positions(lengths: Int32Array, which: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where the tokens of some sequences lie in the concatenation of all, in the order of `which`."""
    starts = (np.cumsum(lengths) - lengths)[which]
    chosen = lengths[which].astype(np.int64)
    before = np.cumsum(chosen) - chosen
    return np.repeat(starts - before, chosen) + np.arange(int(chosen.sum()))


def _chunks(tokens: Sequence[Tokens]) -> dict[str, Any]:
    if all(entry.chunks is None for entry in tokens):
        return {}
    lengths = [entry.chunks or [len(entry.ids)] for entry in tokens]
    return {
        "chunk_lengths": np.fromiter(chain.from_iterable(lengths), dtype=np.int32),
        "chunk_counts": np.fromiter(map(len, lengths), dtype=np.int32),
    }


def _images(tokens: Sequence[Tokens]) -> dict[str, Any]:
    pixels = [entry.pixels for entry in tokens if entry.pixels is not None]
    if not pixels:
        return {}
    grids = [image.grid for image in pixels if image.grid is not None]
    return {
        "is_image": np.array([entry.pixels is not None for entry in tokens]),
        "pixels": np.concatenate([image.values for image in pixels]),
        "grids": np.stack(grids) if grids else None,
        "image_starts": _image_starts(tokens),
    }


def _image_starts(tokens: Sequence[Tokens]) -> Int32Array | None:
    if all(entry.image_at is None for entry in tokens):
        return None
    ends = accumulate(len(entry.ids) for entry in tokens)
    starts = (
        end - len(entry.ids) + entry.image_at
        for entry, end in zip(tokens, ends, strict=True)
        if entry.image_at is not None
    )
    return np.fromiter(starts, dtype=np.int32)
