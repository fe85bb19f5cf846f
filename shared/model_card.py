"""What a worker says about itself in each heartbeat: configuration names what should exist, cards say what does."""

from typing import Literal

from pydantic import BaseModel

from shared import __version__
from shared.queues import Operation

#: How long a card outlives its last renewal, in seconds.
CARD_TTL_S = 10


class ModelCard(BaseModel):
    """One model on one worker, after it has run once."""

    name: str
    #: What it can do here; an embedding model also reranks, by cosine similarity.
    operations: list[Operation]
    #: `embedding` or `reranker` (a sequence classifier with one label), in TEI's words.
    model_type: Literal["embedding", "reranker"]
    #: Length of its vectors; None for a reranker.
    dimensions: int | None = None
    #: Longest input in tokens, special tokens included.
    max_tokens: int
    #: `cls`, `mean`, `lasttoken`, …; None for a reranker.
    pooling: str | None = None
    dtype: str
    #: Whether its batches are packed (no padding is computed) or padded.
    packed: bool
    #: Token budget of one forward pass.
    max_batch_tokens: int
    #: Tokens per second, measured at warm-up.
    tokens_per_s: float
    #: Class name in `config.json`.
    architecture: str


class WorkerCard(BaseModel):
    """One worker process."""

    worker: str
    hostname: str
    pid: int
    device: str
    #: `ready` takes work; `restarting` means that its engine process is being replaced.
    state: Literal["ready", "restarting", "draining"]
    models: list[ModelCard]
    version: str = __version__
