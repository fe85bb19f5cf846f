"""Models with a relative position bias on their attention scores (T5's encoder, MPNet), prepared for packed execution.

Their own code builds the bias for the whole row, which in a packed batch is far too large. It depends on distances only, so
one for the longest sequence serves all: each run of equal lengths takes its upper left corner. On CPU only: the
variable-length kernel on CUDA takes no bias.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from workers.packed import packed_attention

#: Model types whose packed forward is compared with the reference in `tests/parity`.
BIASED = frozenset({"mpnet", "mt5", "t5", "umt5"})
_LEAST_LENGTH = 128


class RelativeBias:
    """The bias for the longest sequence so far; it only grows."""

    def __init__(self, compute: Callable[[int], Tensor]) -> None:
        self._compute = compute
        #: Shape (1, heads, length, length).
        self.values = compute(_LEAST_LENGTH)

    def reach(self, length: int) -> None:
        """Make it long enough."""
        while (reached := self.values.shape[-1]) < length:
            self.values = self._compute(2 * reached)


def prepare(model: Any) -> tuple[Any, list[RelativeBias]]:
    """What to call in the model's stead, and the biases that must reach the longest sequence before each call."""
    if model.config.model_type == "mpnet":
        bias = RelativeBias(lambda length: model.encoder.compute_position_bias(torch.empty(1, length, 1)).detach())
        return _PackedMPNet(model, bias), [bias]
    attentions = [block.layer[0].SelfAttention for block in model.encoder.block]
    # T5 has one in its first layer, for all; UMT5 one in each.
    return model, [_prepare_t5(attention) for attention in attentions if attention.has_relative_attention_bias]


def _prepare_t5(attention: Any) -> RelativeBias:
    own = attention.compute_bias
    bias = RelativeBias(lambda length: own(length, length).detach())
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
