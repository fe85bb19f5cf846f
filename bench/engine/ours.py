"""`python -m bench.engine.ours FOLDER DTYPE`: Millrace's tokenizer and engine, called as the worker calls them."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from bench.commands import answer_commands
from bench.texts import texts_of
from shared.logging import configure_logging
from shared.model_config import ModelConfig
from shared.results import Kind
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.scoring import normalized
from workers.sequences import Sequences
from workers.tokenization import ModelTokenizer, Tokens

#: Matrix products whose best rate counts as the device's ceiling: (rows, inner, columns) as in a feed-forward layer.
_PRODUCTS = ((1024, 384, 1536), (2048, 768, 3072), (4096, 1024, 4096))
_PRODUCT_REPEATS = 5


class Ours:
    """The engine in this process."""

    def __init__(self, folder: str, dtype: str) -> None:
        transformers_logging.disable_progress_bar()
        configure_logging("warning", "text")
        config = ModelConfig(name="model", source=folder)
        self._engine = Engine(
            EngineOptions(
                models=[config],
                device="auto",
                dtype=dtype,
                threads=0,
                max_batch_tokens=0,
                batches_in_flight=0,
                log_level="warning",
                log_format="text",
            )
        )
        (model,) = self._engine.models
        self._budget = model.card.max_batch_tokens
        self._tokenizer = ModelTokenizer(model.input_format)
        self._pool = ThreadPoolExecutor(self._engine.batches_in_flight if self._engine.parallel else 1)

    def embed(self, kind: str, count: int) -> dict[str, float]:
        """One pass over `count` texts of a kind.

        Returns:
            Seconds in all and for tokenising, tokens, and the sum of squared lengths (for the attention's share of work).
        """
        texts = texts_of(kind, count)
        started = time.perf_counter()
        tokens = self._tokenizer.encode(texts)
        tokenization_s = time.perf_counter() - started
        list(self._pool.map(self._run, self._batches(tokens)))
        lengths = [len(entry.ids) for entry in tokens]
        return {
            "seconds": time.perf_counter() - started,
            "tokenization_s": tokenization_s,
            "tokens": sum(lengths),
            "squared": sum(length * length for length in lengths),
        }

    def flops(self) -> dict[str, float]:
        """Floating-point operations of the model: per token in its linear layers, per token pair in its attention."""
        model: Any = self._engine.models[0]
        modules = list(model.base_model.modules())
        linear = sum(2 * module.weight.numel() for module in modules if isinstance(module, torch.nn.Linear))
        config = model.base_model.config
        # Scores and their sum over values: two products of the hidden size for each pair of tokens, in each layer.
        return {"per_token": linear, "per_pair": 4 * config.hidden_size * config.num_hidden_layers}

    def ceiling(self, dtype: str) -> float:
        """Best measured rate of a plain matrix product, in floating-point operations per second."""
        best = 0.0
        device = self._engine.device
        for rows, inner, columns in _PRODUCTS:
            left = torch.randn(rows, inner, dtype=getattr(torch, dtype), device=device)
            right = torch.randn(inner, columns, dtype=getattr(torch, dtype), device=device)
            for _ in range(_PRODUCT_REPEATS):
                started = time.perf_counter()
                left @ right
                if device.type == "cuda":
                    torch.cuda.synchronize()
                best = max(best, 2 * rows * inner * columns / (time.perf_counter() - started))
        return best

    def _run(self, batch: Sequence[Tokens]) -> None:
        sequences = Sequences(
            np.fromiter(chain.from_iterable(entry.ids for entry in batch), np.int32),
            np.array([len(entry.ids) for entry in batch], np.int32),
        )
        rows = self._engine.run(0, sequences, [Kind.DENSE], alone=not self._engine.parallel)
        normalized(rows[Kind.DENSE].values)

    def _batches(self, tokens: Sequence[Tokens]) -> list[list[Tokens]]:
        """Sorted by length, cut at the token budget, and enough of them for every place that the engine has."""
        total = sum(len(entry.ids) for entry in tokens)
        places = self._engine.batches_in_flight if self._engine.parallel else 1
        budget = min(self._budget, max(1, -(-total // places)))
        batches: list[list[Tokens]] = [[]]
        used = 0
        for entry in sorted(tokens, key=lambda entry: len(entry.ids)):
            if batches[-1] and used + len(entry.ids) > budget:
                batches.append([])
                used = 0
            batches[-1].append(entry)
            used += len(entry.ids)
        return batches[::-1]  # the longest first, so that no place is left with the largest batch at the end


def _prepare() -> Mapping[str, Callable[..., Any]]:
    ours = Ours(sys.argv[1], sys.argv[2])
    ours.embed("16", 64)
    return {"embed": ours.embed, "flops": ours.flops, "ceiling": ours.ceiling}


if __name__ == "__main__":
    answer_commands(_prepare)
