"""Short packed batches on CUDA as graphs: one launch instead of hundreds, each of which costs Python and the driver time.

Below a few thousand tokens a large GPU waits for its launches: 24 layers are 300 kernels of 4 µs and 6 ms of Python. A graph
has fixed shapes, so there is one per bucket of tokens. Unused tokens belong to sequences of their own, which nobody attends
to or reads; unused places for sequences are empty. Each graph is compared with the eager forward pass before it is used; a
model that cannot be captured, or comes out different, runs eagerly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.errors import first_line
from shared.logging import get_logger
from workers import device as devices
from workers.packed import HostBatch, PackedBatch
from workers.sequences import Sequences

log = get_logger("millrace.engine")

#: Tokens of each graph. Between two of them at most half of the work is for nothing, where time is flat anyway.
BUCKETS = (32, 64, 128, 256, 512, 1024, 2048)
#: Longest sequence in a graph; the kernel's grid is made for it.
_LONGEST = 512
#: Places for sequences: one for every so many tokens, but at least so many.
_TOKENS_PER_PLACE = 4
_LEAST_PLACES = 16
#: Smallest cosine of two states of the same token, graph and eager.
_AGREES = 0.999

Forward = Callable[[PackedBatch], Tensor]


@dataclass(frozen=True, slots=True)
class _Graph:
    #: Gives states of shape (1, bucket, hidden size).
    replay: Callable[[], Tensor]
    batch: PackedBatch


class Graphs:
    """The captured forward passes of one model."""

    def __init__(self, forward: Forward, device: torch.device, *, padding_idx: int | None, longest: int) -> None:
        """Capture a graph for each bucket.

        Args:
            forward: States of a packed batch, shape (1, total, hidden size), without reading the device.
            device: A CUDA device.
            padding_idx: As for `HostBatch`.
            longest: Longest sequence that the model has positions for: a longer one would be a fault of the device.

        Raises:
            RuntimeError: It cannot be captured, or gives other numbers.
        """
        self._padding_idx = padding_idx
        self._longest = min(longest, _LONGEST)
        capture = devices.GraphCapture(device)
        # The largest first: the smaller ones then fit into its memory.
        self._graphs = {tokens: _captured(forward, device, tokens, capture) for tokens in sorted(BUCKETS, reverse=True)}
        for tokens in BUCKETS:
            self._check(forward, device, tokens)

    def __call__(self, sequences: Sequences) -> tuple[Tensor, PackedBatch] | None:
        """States of shape (total, hidden size) and the batch as it lies on the device, or None when it is too large.

        Both are views of the graph's own memory: what is made of them has to be launched on the same stream before the
        next batch.
        """
        total, count = len(sequences.ids), len(sequences.lengths)
        bucket = next((tokens for tokens in BUCKETS if total <= tokens and count <= _most_sequences(tokens)), None)
        if bucket is None or int(sequences.lengths.max()) > self._longest:
            return None
        graph = self._graphs[bucket]
        host = _filled_up(HostBatch.of(sequences, padding_idx=self._padding_idx), bucket)
        graph.batch.fill(host)
        states = graph.replay()
        return states[0, :total], graph.batch.first(total, count)

    def _check(self, forward: Forward, device: torch.device, tokens: int) -> None:
        lengths = np.array([1, tokens // 4, tokens - tokens // 4 - 2], np.int32)
        lengths = np.minimum(lengths, self._longest)
        sequences = Sequences(np.arange(5, 5 + lengths.sum(), dtype=np.int32) % 90 + 5, lengths)
        graphed = self(sequences)
        eager = forward(HostBatch.of(sequences, padding_idx=self._padding_idx).on(device))[0]
        if graphed is None or functional.cosine_similarity(graphed[0].float(), eager.float()).min().item() < _AGREES:
            raise RuntimeError(f"the graph of {tokens} tokens differs from the eager forward pass")


def graphs_of(forward: Forward, device: torch.device, *, padding_idx: int | None, longest: int) -> Graphs | None:
    """Graphs of a model, or None where it has to run eagerly."""
    try:
        return Graphs(forward, device, padding_idx=padding_idx, longest=longest)
    except Exception as err:  # noqa: BLE001 - what a model does under capture is up to it; the eager path always works
        log.info("graphs_not_used", reason=first_line(err))
        return None


def _captured(forward: Forward, device: torch.device, tokens: int, capture: devices.GraphCapture) -> _Graph:
    example = Sequences(np.array([5], np.int32), np.array([1], np.int32))
    batch = _filled_up(HostBatch.of(example, padding_idx=None), tokens).on(device)
    return _Graph(capture(lambda: forward(batch)), batch)


def _places(tokens: int) -> int:
    return max(_LEAST_PLACES, tokens // _TOKENS_PER_PLACE)


def _most_sequences(tokens: int) -> int:
    """How many a batch may have: what fills it up takes places as well."""
    return _places(tokens) - -(-tokens // _LONGEST)


def _filled_up(host: HostBatch, tokens: int) -> HostBatch:
    """The batch at a graph's size: unused tokens in sequences of their own, unused sequences empty."""
    total = host.values.shape[1]
    values = np.zeros((len(host.values), tokens), np.int64)
    values[:, :total] = host.values
    ends = np.full(_places(tokens) + 1, tokens, np.int32)
    ends[: len(host.ends)] = host.ends
    fillers = np.arange(total + _LONGEST, tokens, _LONGEST)
    ends[len(host.ends) : len(host.ends) + len(fillers)] = fillers
    return HostBatch(values, ends, min(tokens, _LONGEST), runs=())
