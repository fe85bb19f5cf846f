"""The real engine process with planted faults, told by words in the text: what a bad input does to a real device."""

import os
import signal
import time
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from shared.results import Kind
from workers import engine
from workers.sequences import Sequences
from workers.tokenization import ModelTokenizer

#: Tokens of a batch with the word "memory" in it that this device has room for.
MEMORY_TOKENS = 100

_real_start = engine.Engine.start


#: Token ids of planted words that have been looked up.
_markers: dict[str, int] = {}


def _marker(engine_: engine.Engine, word: str) -> int:
    """The token id of a word that the tests plant."""
    if word not in _markers:  # a tokenizer takes longer to make than a batch to run
        tokenizer = ModelTokenizer(replace(engine_.models[0].input_format, max_tokens=8))
        _markers[word] = tokenizer.encode([word])[0].ids[1]
    return _markers[word]


def start(
    self: engine.Engine, model: int, sequences: Sequences, kinds: Collection[Kind], *, alone: bool = True
) -> engine.Started:
    """Start a batch, unless a planted word is in it."""
    if _marker(self, "explosion") in sequences.ids:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if _marker(self, "murder") in sequences.ids:
        os.kill(os.getpid(), signal.SIGKILL)
    if _marker(self, "memory") in sequences.ids and len(sequences.ids) > MEMORY_TOKENS:
        torch.empty(1 << 50)  # what PyTorch's own allocator says when there is no more
    if _marker(self, "sleep") in sequences.ids:
        time.sleep(3600)
    started = _real_start(self, model, sequences, kinds, alone=alone)
    if _marker(self, "infinity") not in sequences.ids:
        return started
    values = torch.from_numpy(started.rows()[Kind.DENSE].values.copy())
    starts = np.concatenate(([0], np.cumsum(sequences.lengths)[:-1]))
    for index, first in enumerate(starts):
        if _marker(self, "infinity") in sequences.ids[first : first + sequences.lengths[index]]:
            values[index] = torch.nan
    return engine.Started({Kind.DENSE: values}, None)


if __name__ == "__main__":
    engine.Engine.start = start  # type: ignore[method-assign]
    engine.main()
