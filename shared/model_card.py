"""What a worker says about itself in each heartbeat: configuration names what should exist, cards say what does."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator

from shared import __version__
from shared.queues import Operation
from shared.results import Kind

#: How long a card outlives its last renewal, in seconds.
CARD_TTL_S = 10

#: `ready` takes work; `restarting` replaces its engine process; `draining` stops; `wedged` does not get on by itself.
State = Literal["ready", "restarting", "draining", "wedged"]
#: Which inputs share a forward pass: any; those of equal length only, where the model's own code lets padding change the
#: numbers; none, where it takes one input at a time.
Batching = Literal["any", "equal_lengths", "none"]


def _known(values: type[StrEnum]) -> BeforeValidator:
    """Leaves out what only another version knows: while a deployment is upgraded, cards of both are read by both."""

    def keep_known(given: Any) -> Any:
        return [value for value in given if value in list(values)] if isinstance(given, list) else given

    return BeforeValidator(keep_known)


class ModelCard(BaseModel):
    """One model on one worker, after it has run once."""

    name: str
    #: What it can do here; an embedding model also reranks, by the similarity of its vectors.
    operations: Annotated[list[Operation], _known(Operation)]
    #: `embedding`, `reranker` (a sequence classifier with one label) or `classifier`, in TEI's words.
    model_type: Literal["embedding", "reranker", "classifier"]
    #: The kinds of vectors that it makes; none for rerankers and classifiers.
    kinds: Annotated[list[Kind], _known(Kind)] = []
    #: What it reads: `text`, and perhaps `image`.
    modalities: list[str] = ["text"]
    #: How it scores a document: by its own logit, by the cosine or the dot product of two vectors (dense ones where it makes
    #: them, else sparse ones), or by the sum (or mean) over the query's vectors of the best dot product with one of the
    #: document's.
    scoring: Literal["logit", "cosine", "dot", "maxsim", "mean_maxsim"] = "cosine"
    #: What turns logits into scores between 0 and 1.
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    #: A classifier's labels, in the order of its scores.
    labels: list[str] = []
    #: Names of its prompts.
    prompts: list[str] = []
    #: Length of its vectors; None for a reranker.
    dimensions: int | None = None
    #: Longest input in tokens, special tokens included.
    max_tokens: int
    #: `cls`, `mean`, `lasttoken`, …; None for a reranker.
    pooling: str | None = None
    #: Whether it can read several texts as one document and give each its own vector.
    late_chunking: bool = False
    #: Whether its int8 and uint8 vectors are calibrated by ranges of its own.
    int8_calibrated: bool = False
    dtype: str
    #: Whether its batches are packed (no padding is computed) or padded.
    packed: bool
    batching: Batching = "any"
    #: Class name in `config.json`.
    architecture: str
    #: Token budget of one forward pass; the engine's to say, once the model has run.
    max_batch_tokens: int = 1
    #: Tokens per second, measured at warm-up.
    tokens_per_s: float = 0.0


class WorkerCard(BaseModel):
    """One worker process."""

    worker: str
    hostname: str
    pid: int
    device: str
    state: State
    models: list[ModelCard]
    version: str = __version__
