"""Work in the worker: a task's requests, their items, and how rows of numbers become replies."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.errors import InferenceFailed, MillraceError
from shared.jobs import EmbedRequest, Request, RerankRequest, Task
from shared.queues import Lane
from shared.results import Output, Reply, Timings

Float32Array = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Item:
    """One text or pair, tokenised: a sequence of a packed batch."""

    work: "RequestWork"
    #: Position among its request's items.
    index: int
    ids: list[int]
    #: Segment ids, or None when they are all 0.
    type_ids: list[int] | None
    tokens: int
    arrived_at: float
    #: Failed batches that it was part of; it is tried in smaller and smaller company.
    failures: int = 0


@dataclass(slots=True, eq=False)
class RequestWork:
    """One request on its way through the worker."""

    request: Request
    task: "TaskWork"
    #: Rows that have come back, by item index.
    rows: list[Float32Array | None] = field(default_factory=list)
    remaining: int = 0
    tokens: int = 0
    truncated: int = 0
    error: MillraceError | None = None
    tokenization_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0

    def reply(self, *, reranks_by_cosine: bool) -> Reply:
        """The answer: vectors or scores as little-endian float32, or the error."""
        if self.error is not None:
            return self.error
        rows = np.stack([row for row in self.rows if row is not None])
        if not np.isfinite(rows).all():
            return InferenceFailed("the model returned values that are not finite")
        if isinstance(self.request, EmbedRequest):
            values = _vectors(rows, self.request)
        elif reranks_by_cosine:
            values = _cosine(rows)
        else:
            values = _scores(rows, self.request)
        return Output(
            shape=values.shape,
            data=np.ascontiguousarray(values, dtype="<f4").tobytes(),
            tokens=self.tokens,
            truncated=self.truncated,
            timings=Timings(self.queue_s, self.tokenization_s, self.inference_s),
        )


@dataclass(slots=True, eq=False)
class TaskWork:
    """One Celery message in the worker."""

    task_id: str
    delivery_tag: str
    task: Task
    requests: list[RequestWork] = field(default_factory=list)
    started: bool = False

    @classmethod
    def of(cls, task_id: str, delivery_tag: str, task: Task) -> "TaskWork":
        """Work for a task that has just been received."""
        work = cls(task_id, delivery_tag, task)
        work.requests = [RequestWork(request, work) for request in task.requests]
        return work

    @property
    def lane(self) -> Lane:
        """Its lane."""
        return self.task.lane

    def summary(self) -> str:
        """What Flower shows as the task's result."""
        failed = sum(work.error is not None for work in self.requests)
        items = sum(len(work.rows) for work in self.requests)
        tokens = sum(work.tokens for work in self.requests)
        text = f"{len(self.requests)} requests, {items} items, {tokens} tokens"
        return f"{text}, {failed} failed" if failed else text


def normalized(rows: Float32Array) -> Float32Array:
    """Rows scaled to unit Euclidean length; like torch's `normalize`, a zero row stays zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
    unit: Float32Array = rows / np.maximum(norms, 1e-12)[:, None]
    return unit


def _vectors(rows: Float32Array, request: EmbedRequest) -> Float32Array:
    """Matryoshka: slice first, then normalise, as OpenAI and TEI do."""
    if request.dimensions is not None:
        rows = rows[:, : request.dimensions]
    return normalized(rows) if request.normalize else rows


def _cosine(rows: Float32Array) -> Float32Array:
    """Row 0 is the query: its cosine similarity to each of the others."""
    unit = normalized(rows)
    scores: Float32Array = unit[1:] @ unit[0]
    return scores


def _scores(rows: Float32Array, request: RerankRequest) -> Float32Array:
    """One logit per pair; the sigmoid maps it to 0..1 unless raw scores are asked for."""
    logits = rows[:, 0]
    if request.raw_scores:
        return logits
    # exp(-log(1 + exp(-x))) is the sigmoid, without overflow at either end.
    scores: Float32Array = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64))).astype(np.float32)
    return scores
