"""`python -m bench.engine.ours FOLDER DTYPE [DEVICE]`: Millrace's tokenizer and engine, called as the worker calls them."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, cast

import numpy as np
from transformers.utils import logging as transformers_logging

from bench.arithmetic import Product, Work
from bench.commands import answer_commands
from bench.texts import rerank_texts, texts_of
from shared.jobs import RerankRequest
from shared.logging import configure_logging
from shared.model_config import ModelConfig
from shared.results import Kind
from workers.engine import Engine, Started
from workers.engine_protocol import EngineOptions
from workers.packed import is_causal
from workers.rows import BatchRows
from workers.scoring import normalized, sigmoid
from workers.sequences import Sequences
from workers.tokenization import ModelTokenizer, Tokens

#: Matrix products whose best rate counts as the device's ceiling: as in a feed-forward layer.
_PRODUCTS = (Product(1024, 384, 1536), Product(2048, 768, 3072), Product(4096, 1024, 4096))
_PRODUCT_REPEATS = 5


class Ours:
    """The engine in this process."""

    def __init__(self, folder: str, dtype: str, device: str = "auto") -> None:
        transformers_logging.disable_progress_bar()
        configure_logging("warning", "text")
        self._engine = Engine(
            EngineOptions(
                models=[ModelConfig(name="model", source=folder)],
                device=device,
                dtype=dtype,
            )
        )
        # A family's own class: it has more than the engine asks of it.
        (self.model,) = cast("list[Any]", self._engine.models)
        self.input_format = self.model.input_format
        self.work = Work.of(self.model.base_model, causal=is_causal(self.model.base_model.config))
        self.device = self._engine.device
        self._tokenizer = ModelTokenizer(self.input_format)
        self._pool = ThreadPoolExecutor(self._engine.batches_in_flight if self._engine.parallel else 1)

    def embed(self, kind: str, count: int, *, budget: int = 0, kinds: Sequence[str] = ("dense",)) -> dict[str, float]:
        """One pass over `count` texts of a kind.

        Args:
            kind: One of `bench.texts.KINDS`.
            count: How many.
            budget: Tokens of a forward pass; 0 for the engine's own.
            kinds: What is made of each text.

        Returns:
            Seconds in all and for tokenising, tokens, and floating-point operations.
        """
        texts = texts_of(kind, count)
        started = time.perf_counter()
        tokens = self._tokenizer.encode(texts)
        tokenization_s = time.perf_counter() - started
        self._forward(tokens, [Kind(kind) for kind in kinds], budget)
        return self._measured(tokens, time.perf_counter() - started, tokenization_s)

    def rerank(self, query: str, documents: Sequence[str]) -> dict[str, float]:
        """One query against documents; returns what `embed` does."""
        started = time.perf_counter()
        request = RerankRequest(request_id="r", deadline=0, query=query, documents=documents)
        tokens = self._tokenizer.encode_request(request)
        tokenization_s = time.perf_counter() - started
        self._forward(tokens, [Kind.SCORES], 0)
        return self._measured(tokens, time.perf_counter() - started, tokenization_s)

    def describe(self) -> dict[str, Any]:
        """What the engine says of the model."""
        card = self.model.card
        return {
            "max_batch_tokens": card.max_batch_tokens,
            "packed": card.packed,
            "dtype": card.dtype,
            "architecture": card.architecture,
            "linear_flops_per_token": self.work.per_token,
        }

    def ceiling(self, dtype: str) -> float:
        """Best rate of a plain matrix product, in floating-point operations per second."""
        return max(
            product.flops / min(product.seconds(dtype=dtype, device=self.device, repeats=_PRODUCT_REPEATS))
            for product in _PRODUCTS
        )

    def _forward(self, tokens: Sequence[Tokens], kinds: Sequence[Kind], budget: int) -> None:
        batches = self._batches(tokens, budget or self.model.card.max_batch_tokens)
        if self._engine.parallel:
            list(self._pool.map(partial(self._run, kinds=kinds), batches))
            return
        # As the engine process on a GPU: the next batch is launched before the last one's rows have arrived.
        under_way: deque[Started] = deque()
        for batch in batches:
            under_way.append(self._engine.start(0, _sequences(batch), kinds))
            if len(under_way) >= self._engine.batches_in_flight:
                _finish(under_way.popleft().rows())
        for started in under_way:
            _finish(started.rows())

    def _run(self, batch: Sequence[Tokens], *, kinds: Sequence[Kind]) -> None:
        _finish(self._engine.run(0, _sequences(batch), kinds, alone=False))

    def _measured(self, tokens: Sequence[Tokens], seconds: float, tokenization_s: float) -> dict[str, float]:
        lengths = [len(entry.ids) for entry in tokens]
        return {
            "seconds": seconds,
            "tokenization_s": tokenization_s,
            "texts": len(tokens),
            "tokens": sum(lengths),
            "flops": self.work.flops(lengths),
        }

    def _batches(self, tokens: Sequence[Tokens], budget: int) -> list[list[Tokens]]:
        """Sorted by length, cut at the token budget, and enough of them for every place that the engine has."""
        total = sum(len(entry.ids) for entry in tokens)
        places = self._engine.batches_in_flight if self._engine.parallel else 1
        budget = min(budget, max(1, -(-total // places)))
        batches: list[list[Tokens]] = [[]]
        used = 0
        for entry in sorted(tokens, key=lambda entry: len(entry.ids)):
            if batches[-1] and used + len(entry.ids) > budget:
                batches.append([])
                used = 0
            batches[-1].append(entry)
            used += len(entry.ids)
        return batches[::-1]  # the longest first, so that no place is left with the largest batch at the end


def _sequences(batch: Sequence[Tokens]) -> Sequences:
    types = None
    if any(entry.type_ids is not None for entry in batch):
        types = np.fromiter(chain.from_iterable(entry.type_ids or [0] * len(entry.ids) for entry in batch), np.int32)
    return Sequences(
        np.fromiter(chain.from_iterable(entry.ids for entry in batch), np.int32),
        np.array([len(entry.ids) for entry in batch], np.int32),
        types,
    )


def _finish(rows: BatchRows) -> None:
    """What the worker makes of them."""
    if Kind.DENSE in rows:
        normalized(rows[Kind.DENSE].values)
    if Kind.SCORES in rows:
        sigmoid(rows[Kind.SCORES].values)


def _prepare() -> Mapping[str, Callable[..., Any]]:
    ours = Ours(*sys.argv[1:])

    def rerank(kind: str, count: int) -> dict[str, float]:
        return ours.rerank(*rerank_texts(kind, count))

    does = ours.embed if ours.model.card.kinds else rerank
    does("16", 64)
    return {does.__name__: does, "describe": ours.describe, "ceiling": ours.ceiling}


if __name__ == "__main__":
    answer_commands(_prepare)
