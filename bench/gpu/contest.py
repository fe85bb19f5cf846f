"""`python -m bench.gpu.contest FOLDER DTYPE DEVICE`: one model, by Millrace and by its peers, a measuring process.

They share a process and a GPU; one runs at a time, and on a GPU they share no thread pool that matters.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from bench.arithmetic import Product
from bench.commands import answer_commands
from bench.engine.ours import Ours
from bench.engine.reference import Reference
from bench.engine.reranking import RerankReference
from bench.texts import texts_of, words

_PRODUCT_REPEATS = 20
_QUERY_WORDS = 14
_SEED = 5


class Contest:
    """Whoever is asked for is loaded first."""

    def __init__(self, folder: str, dtype: str, device: str) -> None:
        self._folder, self._dtype, self._device = folder, dtype, device
        self._ours: Ours | None = None
        self._reference: Reference | None = None
        self._rerankers: RerankReference | None = None

    @property
    def ours(self) -> Ours:
        """Millrace's engine."""
        if self._ours is None:
            self._ours = Ours(self._folder, self._dtype, self._device)
        return self._ours

    @property
    def reference(self) -> Reference:
        """The embedding model's peers."""
        if self._reference is None:
            self._reference = Reference(self._folder, self._dtype, self._device)
        return self._reference

    @property
    def rerankers(self) -> RerankReference:
        """The reranker's peers."""
        if self._rerankers is None:
            ours = self.ours
            self._rerankers = RerankReference(self._folder, self._dtype, ours.device, ours.input_format)
        return self._rerankers

    def ready(self) -> bool:
        """Answered when everything is imported."""
        return True

    def describe(self) -> dict[str, Any]:
        """Load the engine; says what it makes of the model, and how long that took in seconds."""
        started = time.perf_counter()
        return {**self.ours.describe(), "load_s": time.perf_counter() - started}

    def own_products(self, rows: int) -> dict[str, Any]:
        """The model's own linear layers as bare matrix products.

        Args:
            rows: Tokens.

        Returns:
            The rate of each shape, in floating-point operations per second, how often it is in the model, and the tokens per
            second of a model that consists of them alone.
        """
        layers = Counter(
            (module.in_features, module.out_features)
            for name, module in self.ours.model.base_model.named_modules()
            if isinstance(module, torch.nn.Linear) and not name.startswith("pooler")
        )
        found = []
        seconds_of_all = 0.0
        for (inner, columns), count in sorted(layers.items()):
            product = Product(rows, inner, columns)
            seconds = median(product.seconds(dtype=self._dtype, device=self.ours.device, repeats=_PRODUCT_REPEATS))
            found.append({"inner": inner, "columns": columns, "count": count, "flops": product.flops / seconds})
            seconds_of_all += count * seconds
        return {"rows": rows, "products": found, "tokens_per_s": rows / seconds_of_all}

    def embed(self, contender: str, kind: str, count: int, **options: Any) -> dict[str, float]:
        """One pass over texts; see `Ours.embed` and `Reference`."""
        if contender == "millrace":
            return self.ours.embed(kind, count, **options)
        run: Callable[..., dict[str, float]] = getattr(self.reference, contender)
        return run(kind, count, **options)

    def peers(self) -> list[str]:
        """Load a reranker's peers; returns who they are."""
        return self.rerankers.names

    def rerank(
        self, contender: str, documents: int, tokens: int, repeats: int, *, batch_size: int = 0
    ) -> dict[str, Any]:
        """One query against documents of a length, several times, other documents each time.

        Returns:
            Seconds of each time; of ours also the tokens of one time, and its floating-point operations.
        """
        dice = random.Random(_SEED)
        query = " ".join(dice.choices(words(), k=_QUERY_WORDS))
        pool = texts_of(str(tokens + 2), documents * repeats)
        groups = [pool[start : start + documents] for start in range(0, len(pool), documents)]
        if contender == "millrace":
            rows = [self.ours.rerank(query, group) for group in groups]
            return {
                "seconds": [row["seconds"] for row in rows],
                "tokenization_s": [row["tokenization_s"] for row in rows],
                "tokens": rows[0]["tokens"],
                "flops": rows[0]["flops"],
            }
        run = getattr(self.rerankers, contender)
        return {"seconds": [run(query, group, batch_size=batch_size) for group in groups]}


def _prepare() -> Mapping[str, Callable[..., Any]]:
    contest = Contest(*sys.argv[1:])
    commands: Sequence[Callable[..., Any]] = (
        contest.ready,
        contest.describe,
        contest.own_products,
        contest.embed,
        contest.peers,
        contest.rerank,
    )
    return {command.__name__: command for command in commands}


if __name__ == "__main__":
    answer_commands(_prepare)
