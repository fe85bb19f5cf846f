"""Padded batches, for architectures that do not pack."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.model_card import Batching
from workers.sequences import Int32Array, Sequences, token_positions

#: A sequence begins a new rectangle when it would make this one's share of padding larger than this ...
_MOST_PADDING = 0.2
#: ... and the padding larger than the tokens that a forward pass of its own costs, by type of device (for CUDA an estimate:
#: 6 ms of launches at a million tokens per second).
_TOKENS_OF_A_PASS = {"cpu": 64, "cuda": 4096}


def pad(
    sequences: Sequences,
    pad_id: int,
    device: torch.device,
    *,
    types: bool,
    width: int | None = None,
    left: bool = False,
) -> dict[str, Tensor]:
    """A rectangle of the longest sequence's width.

    Args:
        sequences: What to pad.
        pad_id: The tokenizer's padding token.
        device: Where the tensors go.
        types: Whether the model takes segment ids.
        width: Another width, not below the longest sequence's.
        left: Whether the padding goes in front.

    Returns:
        `input_ids`, `attention_mask` and perhaps `token_type_ids`, each of shape (count, longest), int64.
    """
    lengths = sequences.lengths.astype(np.int64)
    columns = np.arange(width or int(lengths.max()))
    mask = (columns[::-1] if left else columns) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = sequences.ids
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if types:
        segment = np.zeros(mask.shape, dtype=np.int64)
        if sequences.type_ids is not None:
            segment[mask] = sequences.type_ids
        arrays["token_type_ids"] = segment
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def similar_lengths(
    lengths: Int32Array,
    device: torch.device,
    *,
    batching: Batching = "any",
    apart: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int64], list[slice]]:
    """Group sequences so that little padding is computed, in few forward passes.

    Args:
        lengths: Theirs, in tokens, shape (count,).
        device: Where they run.
        batching: Which of them may share a group.
        apart: Numbers that are equal in a group, shape (count,); None where that does not matter.

    Returns:
        Their order, longest first (stable; by `apart` before), and the groups as slices of that order.
    """
    kinds = np.zeros_like(lengths) if apart is None else apart
    order = np.lexsort((-lengths, kinds))
    groups: list[slice] = []
    start = real = 0
    for at, (length, kind) in enumerate(zip(lengths[order].tolist(), kinds[order].tolist(), strict=True)):
        area = int(lengths[order[start]]) * (at + 1 - start)
        padding = area - real - length
        most = max(_MOST_PADDING * area, _TOKENS_OF_A_PASS[device.type]) if batching == "any" else 0
        if at > start and (padding > most or kind != kinds[order[start]] or batching == "none"):
            groups.append(slice(start, at))
            start, real = at, 0
        real += length
    groups.append(slice(start, len(order)))
    return order, groups


def places(lengths: Int32Array, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each token of the batch lies after its sequences were put into `order`, shape (total,)."""
    moved = token_positions(lengths, order)
    back = np.empty_like(moved)
    back[moved] = np.arange(len(moved))
    return back
