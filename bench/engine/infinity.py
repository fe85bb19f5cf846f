"""`python -m bench.engine.infinity FOLDER DTYPE [DEVICE]`: Infinity's engine in its own environment, a measuring process.

Nothing of ours but the texts and the command loop is imported.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from infinity_emb import AsyncEngineArray, EngineArgs

from bench.commands import answer_commands
from bench.texts import rerank_texts, texts_of


class Infinity:
    """Its engine with its own defaults, fed with all texts at once so that it can sort and batch them."""

    def __init__(self, folder: str, dtype: str, device: str = "cpu") -> None:
        self._loop = asyncio.new_event_loop()
        arguments = EngineArgs(
            model_name_or_path=folder,
            engine="torch",
            device=device,
            dtype=dtype,
            batch_size=32,
            bettertransformer=False,
            model_warmup=False,
        )
        self._engine = AsyncEngineArray.from_args([arguments])[0]
        self._loop.run_until_complete(self._engine.astart())

    def embed(self, kind: str, count: int) -> dict[str, float]:
        """One pass over `count` texts of a kind."""
        texts = texts_of(kind, count)
        started = time.perf_counter()
        self._loop.run_until_complete(self._engine.embed(texts))
        return {"seconds": time.perf_counter() - started}

    def rerank(self, kind: str, count: int) -> dict[str, float]:
        """One query against `count` documents of a kind."""
        query, documents = rerank_texts(kind, count)
        started = time.perf_counter()
        self._loop.run_until_complete(self._engine.rerank(query=query, docs=documents))
        return {"seconds": time.perf_counter() - started}

    @property
    def does(self) -> Callable[[str, int], dict[str, float]]:
        """What its model is for."""
        return self.rerank if "rerank" in self._engine.capabilities else self.embed


def _prepare() -> Mapping[str, Callable[..., Any]]:
    does = Infinity(*sys.argv[1:]).does
    does("16", 32)
    return {does.__name__: does}


if __name__ == "__main__":
    answer_commands(_prepare)
