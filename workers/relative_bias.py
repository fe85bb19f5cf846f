"""Models with a relative position bias on their attention scores (T5's encoder, MPNet), prepared for packed execution.

Their own code builds the bias for the whole row, which in a packed batch is far too large. It depends on distances only, so
one for the longest sequence serves all: each run of equal lengths takes its upper left corner. It grows with the square of
the length, so one for long sequences is made for their batch and not kept. On CPU only: the variable-length kernel on CUDA
takes no bias.
"""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from workers.packed import packed_attention

_LEAST_LENGTH = 128
#: What the biases of one model keep, in bytes: 512 tokens in each of UMT5-base's layers, or 1,870 tokens in T5-base.
_KEPT_BYTES = 160 << 20


class RelativeBias:
    """The bias for sequences of any length; what it keeps only grows, to a limit."""

    def __init__(self, by_distance: Callable[[int], Tensor], *, kept_bytes: int) -> None:
        """Make a first one.

        Args:
            by_distance: For a length, what each distance from 1 - length to length - 1 adds, shape (heads, 2 * length - 1).
            kept_bytes: How much may be kept.
        """
        self._by_distance = by_distance
        #: Shape (1, heads, length, length).
        self._kept = self._square(_LEAST_LENGTH)
        of_one = self._kept.element_size() * self._kept.shape[1]
        self._longest_kept = max(_LEAST_LENGTH, int((kept_bytes / of_one) ** 0.5))
        #: Batches run beside each other, each in a thread of its own.
        self._batch = threading.local()

    def reach(self, length: int) -> None:
        """Say how long the longest sequence of this thread's next forward pass is."""
        self._batch.length = length
        if (reached := self._kept.shape[-1]) < length <= self._longest_kept:
            self._kept = self._square(min(max(length, 2 * reached), self._longest_kept))

    @property
    def values(self) -> Tensor:
        """Shape (1, heads, length, length), for the length that was said or a larger one."""
        kept, length = self._kept, self._batch.length
        return kept if length <= kept.shape[-1] else self._square(length)

    def _square(self, length: int) -> Tensor:
        """Row i is what the distances from -i on add."""
        return self._by_distance(length).unfold(-1, length, 1).flip(-2)[None]


def prepare(model: Any) -> tuple[Any, list[RelativeBias]]:
    """What to call in the model's stead, and the biases that must reach the longest sequence before each call."""
    if model.config.model_type == "mpnet":
        bias = RelativeBias(lambda length: _of_mpnet(model.encoder, length), kept_bytes=_KEPT_BYTES)
        return _PackedMPNet(model, bias), [bias]
    attentions = [block.layer[0].SelfAttention for block in model.encoder.block]
    # T5 has one in its first layer, for all; UMT5 one in each.
    biased = [attention for attention in attentions if attention.has_relative_attention_bias]
    return model, [_prepare_t5(attention, _KEPT_BYTES // len(biased)) for attention in biased]


def _of_mpnet(encoder: Any, length: int) -> Tensor:
    distances = torch.arange(1 - length, length)
    values: Tensor = encoder.relative_attention_bias(encoder.relative_position_bucket(distances))
    return values.detach().T


def _prepare_t5(attention: Any, kept_bytes: int) -> RelativeBias:
    own = attention.compute_bias
    # One row is enough: that of the last token of `length`, with as many tokens before it as behind.
    bias = RelativeBias(
        lambda length: own(1, 2 * length - 1, past_seen_tokens=length - 1)[0, :, 0].detach(), kept_bytes=kept_bytes
    )
    attention.compute_bias = lambda *_, **__: bias.values
    return bias


class _PackedMPNet:
    """MPNet's forward pass with packed attention: its classes are older than transformers' attention interface."""

    def __init__(self, model: Any, bias: RelativeBias) -> None:
        self._model = model
        self._bias = bias

    def __call__(self, input_ids: Tensor, position_ids: Tensor, **arguments: Any) -> SimpleNamespace:
        """An object with `last_hidden_state`, shape (1, total, hidden size)."""
        states = self._model.embeddings(input_ids=input_ids, position_ids=position_ids)
        for layer in self._model.encoder.layer:
            attention = layer.attention.attn
            shape = (*states.shape[:2], attention.num_attention_heads, attention.attention_head_size)
            query, key, value = (
                project(states).view(shape).transpose(1, 2) for project in (attention.q, attention.k, attention.v)
            )
            attended, _ = packed_attention(
                attention, query, key, value, None, position_bias=self._bias.values, **arguments
            )
            attended = layer.attention.LayerNorm(attention.o(attended.flatten(2)) + states)
            states = layer.output(layer.intermediate(attended), attended)
        return SimpleNamespace(last_hidden_state=states)
