"""A transformers model as a function from sequences to token states: packed where it packs, else padded and unpadded again.

What follows (pooling, heads, sparse weights, multi-vectors) sees the packed form only.
"""

from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.model_card import Batching
from workers.graphs import Graphs, graphs_of
from workers.lone import LoneSequence, trace_lone_sequence
from workers.packed import (
    ATTENTION,
    BIASED,
    DECODERS,
    LONGEST_UNSTATED,
    WIDEST_HEAD,
    HostBatch,
    PackedBatch,
    has_windows,
    is_causal,
    learned_position_padding,
    longest_input,
    packs,
    upload,
)
from workers.rectangles import Rectangles
from workers.relative_bias import RelativeBias, prepare
from workers.sequences import Sequences, token_positions
from workers.shared_prefix import shared_prefix


@dataclass(frozen=True, slots=True)
class Hidden:
    """Token states of a batch, on the device."""

    #: Last hidden state, shape (total, hidden size).
    states: Tensor
    #: Token ids, shape (total,), int64.
    input_ids: Tensor
    #: Cumulative lengths, shape (count + 1,), int32.
    cu_seq_lens: Tensor
    #: Which sequence each token belongs to, shape (total,), int64.
    seq_idx: Tensor

    def first(self) -> Tensor:
        """The state of each sequence's first token, shape (count, hidden size)."""
        return self.states[self.cu_seq_lens[:-1].long()]

    def last(self) -> Tensor:
        """The state of each sequence's last token, shape (count, hidden size)."""
        return self.states[self.cu_seq_lens[1:].long() - 1]

    def mean(self) -> Tensor:
        """The mean of each sequence's states, shape (count, hidden size)."""
        sums = self.states.new_zeros((len(self.cu_seq_lens) - 1, self.states.shape[1]))
        return sums.index_add_(0, self.seq_idx, self.states) / self.cu_seq_lens.diff()[:, None]

    def only(self, which: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32]) -> "Hidden":
        """The same of some of the sequences, in the given order.

        Args:
            which: Their indices.
            lengths: Those of all sequences, shape (count,).
        """
        chosen = lengths[which]
        tokens = upload(token_positions(lengths, which), self.states.device)
        cu_seq_lens = upload(np.concatenate(([0], np.cumsum(chosen))).astype(np.int32), self.states.device)
        seq_idx = upload(np.repeat(np.arange(len(chosen)), chosen), self.states.device)
        return Hidden(self.states[tokens], self.input_ids[tokens], cu_seq_lens, seq_idx)

    def in_chunks(self, lengths: npt.NDArray[np.int32]) -> "Hidden":
        """The same cut into pieces of these lengths (their sum is `total`), each of which is then pooled by itself."""
        cu_seq_lens = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
        seq_idx = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        device = self.states.device
        return Hidden(self.states, self.input_ids, cu_seq_lens.to(device), seq_idx.to(device))

    def features(self) -> dict[str, Any]:
        """The same in the words of sentence-transformers' modules, which know packed batches."""
        return {
            "token_embeddings": self.states[None],
            "input_ids": self.input_ids[None],
            "cu_seq_lens_q": self.cu_seq_lens,
            "seq_idx": self.seq_idx[None],
        }


class Encoder:
    """One base model (without a head) on its device."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device, *, trace_lone: bool = False) -> None:
        """Prepare a model; it is changed to packed attention where its type packs.

        Args:
            model: A transformers base model in evaluation mode, on the device.
            tokenizer: Its transformers tokenizer.
            device: Where it runs.
            trace_lone: Whether to make the fast path for a lone sequence on CPU.
        """
        self._model = model
        self._device = device
        has_bias = model.config.model_type in BIASED and device.type == "cpu"
        self.packed = packs(model.config) or has_bias
        is_decoder = model.config.model_type in DECODERS
        # Encoders take the argument too and ignore it; a decoder that nobody looked at would keep all keys and values.
        keeps_cache = is_decoder or (not self.packed and "use_cache" in signature(model.forward).parameters)
        self._options: dict[str, Any] = {"use_cache": False} if keeps_cache else {}
        self._causal = self.packed and is_causal(model.config)
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._padding_idx = learned_position_padding(model)
        self._rectangles: Rectangles | None = None
        self._lone: LoneSequence | None = None
        self._graphs: Graphs | None = None
        self._biases: list[RelativeBias] = []
        if not self.packed:
            self._rectangles = Rectangles(
                self._padded_states,
                device,
                pad_id=tokenizer.pad_token_id or 0,
                types=self._takes_types,
                by_token=True,
                longest=longest_input(model, LONGEST_UNSTATED),
            )
        else:
            # A trace bakes in that its example was shorter than the windows, and is wrong for longer texts.
            traceable = not is_decoder and not has_bias and not has_windows(model.config)
            if trace_lone and device.type == "cpu" and traceable:
                names = ["input_ids", "position_ids", *(["token_type_ids"] if self._takes_types else [])]
                first_position = 0 if self._padding_idx is None else self._padding_idx + 1
                self._lone = trace_lone_sequence(model, names, first_position=first_position)
            model.set_attn_implementation(ATTENTION)
            if has_bias:
                for stack in filter(lambda module: hasattr(module, "set_attn_implementation"), model.children()):
                    stack.set_attn_implementation(
                        ATTENTION
                    )  # UMT5's has its own config, which transformers 5.17 misses
                self._model, self._biases = prepare(model)
            # In float32, and for wide heads, CUDA's attention is a loop over the runs of this very batch, which no graph can
            # hold.
            is_half = model.dtype in (torch.float16, torch.bfloat16)
            if device.type == "cuda" and is_half and not _has_wide_heads(model):
                with torch.inference_mode():
                    before_first = 0 if self._padding_idx is None else self._padding_idx + 1
                    longest = int(model.config.max_position_embeddings) - before_first
                    self._graphs = graphs_of(self._forward, device, padding_idx=self._padding_idx, longest=longest)

    @property
    def batching(self) -> Batching:
        """Which sequences share a forward pass."""
        return "any" if self._rectangles is None else self._rectangles.batching

    def __call__(self, sequences: Sequences, *, visible: npt.NDArray[np.bool_] | None = None) -> Hidden:
        """Run a batch.

        Args:
            sequences: The batch.
            visible: Which tokens others attend to, shape (total,); all when None. Packed models only.
        """
        shared = shared_prefix(sequences) if self._causal and visible is None else None
        if self._graphs is not None and visible is None and shared is None:
            replayed = self._graphs(sequences)
            if replayed is not None:
                return _hidden(*replayed)
        batch = HostBatch.of(sequences, padding_idx=self._padding_idx).on(self._device)
        for bias in self._biases:
            bias.reach(batch.max_length)
        if self._rectangles is not None:
            return _hidden(self._rectangles(sequences), batch)
        if self._lone is not None and len(sequences.lengths) == 1 and visible is None:
            return _hidden(self._lone(self._inputs(batch))[0], batch)
        arguments: dict[str, Any] = {}
        if visible is not None:
            arguments["packed_visible"] = upload(visible, self._device)
        if shared is None:
            return _hidden(self._forward(batch, **arguments)[0], batch)
        expand, compact = (upload(index, self._device) for index in (shared.expand, shared.compact))
        nodes = {name: values[:, compact] for name, values in self._inputs(batch).items()}
        arguments = {**batch.attention_arguments(), "packed_expand": expand, "packed_compact": compact}
        states = self._model(**nodes, **self._options, **arguments).last_hidden_state[0]
        return _hidden(states[expand], batch)

    def _inputs(self, batch: PackedBatch) -> dict[str, Tensor]:
        inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids}
        return {**inputs, "token_type_ids": batch.token_type_ids} if self._takes_types else inputs

    def _forward(self, batch: PackedBatch, **arguments: Any) -> Tensor:
        """States of a packed batch, shape (1, total, hidden size)."""
        states: Tensor = self._model(
            **self._inputs(batch), **self._options, **batch.attention_arguments(), **arguments
        ).last_hidden_state
        return states

    def _padded_states(self, padded: dict[str, Tensor]) -> Tensor:
        """States of the tokens that are not padding, shape (tokens, hidden size)."""
        states: Tensor = self._model(**padded, **self._options).last_hidden_state
        return states[padded["attention_mask"].bool()]


def _has_wide_heads(model: torch.nn.Module) -> bool:
    """Whether some attention head is wider than CUDA's variable-length kernel takes."""
    return any(getattr(module, "head_dim", 0) > WIDEST_HEAD for module in model.modules())


def _hidden(states: Tensor, batch: PackedBatch) -> Hidden:
    return Hidden(states, batch.input_ids[0], batch.cu_seq_lens, batch.seq_idx)
