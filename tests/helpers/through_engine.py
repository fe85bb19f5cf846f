"""Texts through the worker's own parts, in one process: its tokenizer, its engine, its arithmetic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.jobs import ClassifyRequest, EmbedRequest, Request, RerankRequest, Task, operation_of
from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.queues import Lane
from shared.results import Kind, Output
from workers.engine import Engine
from workers.engine_protocol import EngineModel, EngineOptions
from workers.rows import BatchRows
from workers.sequences import Sequences
from workers.served_model import ServedModel
from workers.tokenization import Tokens
from workers.work import TaskWork

Array = npt.NDArray[np.float32]


class Served:
    """One model, as a worker serves it."""

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str = "float32",
        family: str | None = None,
        device: str = "cpu",
        int8_ranges: Path | None = None,
    ) -> None:
        self._engine = Engine(
            EngineOptions(
                models=[ModelConfig(name="model", source=str(folder), family=family, int8_ranges=int8_ranges)],
                device=device,
                dtype=dtype,
                # On cores that others use too, threads that wait for each other are far slower than one.
                threads=1,
                batches_in_flight=1,
            )
        )
        (self._model,) = self._engine.models
        engine_model = EngineModel(self._model.card, self._model.input_format, *self._engine.int8_ranges)
        self._served = ServedModel(0, engine_model, bulk_batch_s=0.1, aging_s=2.0)
        self.tokenizer = self._served.tokenizer

    @property
    def card(self) -> ModelCard:
        """What it says about itself."""
        card: ModelCard = self._model.card
        return card

    def embed(self, texts: Sequence[str], **options: Any) -> Array:
        """Vectors of texts that share one forward pass, in the given order."""
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, **options)
        return self._rows(self.answer(request))

    def rerank(self, query: str, documents: Sequence[str], **options: Any) -> Array:
        """Scores of documents that share one forward pass, in the given order."""
        request = RerankRequest(request_id="r", deadline=0, query=query, documents=documents, **options)
        return self._rows(self.answer(request))

    def classify(self, texts: Sequence[str], seconds: Sequence[str | None] | None = None, **options: Any) -> Array:
        """Label scores of texts (or pairs) that share one forward pass, in the given order."""
        return self._rows(
            self.answer(ClassifyRequest(request_id="r", deadline=0, texts=texts, seconds=seconds, **options))
        )

    def forward(self, tokens: Sequence[Tokens], kinds: Sequence[Kind]) -> BatchRows:
        """The engine's rows for tokenised inputs that share one forward pass."""
        return self._engine.run(0, Sequences.of(tokens), kinds)

    def answer(self, request: Request) -> Output:
        """The worker's answer to a request whose inputs share one forward pass.

        Raises:
            MillraceError: The answer is an error.
        """
        task = Task(model="model", lane=Lane.INTERACTIVE, operation=operation_of(request), requests=[request])
        (work,) = TaskWork.of("t", "t", task).requests
        self._served.read_images(work)
        if work.error is not None:
            raise work.error
        tokens = self._served.sequences_of(work)
        work.tokens = sum(self._served.cost(entry) for entry in tokens)
        rows = self.forward(tokens, work.kinds(self.card))
        by_kind = [[(kind, piece) for piece in of_kind.pieces()] for kind, of_kind in rows.items()]
        work.rows = [dict(pieces) for pieces in zip(*by_kind, strict=True)]
        reply = work.reply(self.card, self._served.int8_ranges)
        if not isinstance(reply, Output):
            raise reply
        return reply

    @staticmethod
    def _rows(output: Output) -> Array:
        return np.frombuffer(output.data, "<f4").reshape(output.shape)
