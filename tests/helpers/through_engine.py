"""Texts through the worker's own parts, in one process: its tokenizer, its engine, its arithmetic."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.jobs import EmbedRequest, RerankRequest, Task, operation_of
from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.queues import Lane
from shared.results import Output
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.sequences import Sequences
from workers.tokenization import ModelTokenizer, Tokens
from workers.work import TaskWork

Rows = npt.NDArray[np.float32]


class Served:
    """One model, as a worker serves it."""

    def __init__(self, folder: Path) -> None:
        self._engine = Engine(
            EngineOptions(
                models=[ModelConfig(name="model", source=str(folder))],
                device="cpu",
                dtype="float32",
                # On cores that others use too, threads that wait for each other are far slower than one.
                threads=1,
                max_batch_tokens=0,
                batches_in_flight=1,
                log_level="warning",
                log_format="text",
            )
        )
        (self._model,) = self._engine.models
        self.tokenizer = ModelTokenizer(
            self._model.tokenizer_json, max_tokens=self.card.max_tokens, takes_pairs=self._model.takes_pairs
        )

    @property
    def card(self) -> ModelCard:
        """What it says about itself."""
        card: ModelCard = self._model.card
        return card

    def embed(self, texts: Sequence[str], **options: Any) -> Rows:
        """Vectors of texts that share one forward pass, in the given order."""
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, **options)
        return self._answer(request, self.tokenizer.encode(texts))

    def rerank(self, query: str, documents: Sequence[str], **options: Any) -> Rows:
        """Scores of documents that share one forward pass, in the given order."""
        request = RerankRequest(request_id="r", deadline=0, query=query, documents=documents, **options)
        if self._model.takes_pairs:
            return self._answer(request, self.tokenizer.encode_pairs(query, documents))
        return self._answer(request, self.tokenizer.encode([query, *documents]))

    def forward(self, tokens: Sequence[Tokens]) -> Rows:
        """The engine's rows for tokenised inputs that share one forward pass."""
        has_types = any(entry.type_ids is not None for entry in tokens)
        types = chain.from_iterable(entry.type_ids or [0] * len(entry.ids) for entry in tokens)
        sequences = Sequences(
            ids=np.array(list(chain.from_iterable(entry.ids for entry in tokens)), np.int32),
            type_ids=np.array(list(types), np.int32) if has_types else None,
            lengths=np.array([len(entry.ids) for entry in tokens], np.int32),
        )
        return self._engine.run(0, sequences)

    def _answer(self, request: EmbedRequest | RerankRequest, tokens: Sequence[Tokens]) -> Rows:
        operation = operation_of(request)
        task = Task(model="model", lane=Lane.INTERACTIVE, operation=operation, requests=[request])
        (work,) = TaskWork.of("t", "t", task).requests
        work.rows = list(self.forward(tokens))
        reply = work.reply(reranks_by_cosine=not self._model.takes_pairs)
        if not isinstance(reply, Output):
            raise reply
        return np.frombuffer(reply.data, "<f4").reshape(reply.shape)
