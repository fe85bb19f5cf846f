"""Work in the worker: a task's requests, their items, and how rows of numbers become replies."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from shared.dead_letters import DeadLetter
from shared.errors import InferenceFailed, MillraceError, UnsupportedByModel
from shared.jobs import ClassifyRequest, EmbedRequest, Request, RerankRequest, Task
from shared.model_card import ModelCard
from shared.queues import Lane
from shared.results import Kind, Output, Precision, Ragged, Reply, Timings, Truncation
from workers import scoring
from workers.images import Pixels
from workers.quantization import quantize
from workers.rows import Piece, stacked
from workers.tokenization import Tokens

Float32Array = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Item:
    """One text or pair, tokenised: a sequence of a packed batch."""

    work: "RequestWork"
    #: Position among its request's items.
    index: int
    sequence: Tokens
    #: Its cost in a packed batch.
    tokens: int
    arrived_at: float
    #: Failed batches that it was part of; it is tried in smaller and smaller company.
    failures: int = 0


@dataclass(slots=True, eq=False)
class RequestWork:
    """One request on its way through the worker."""

    request: Request
    task: "TaskWork"
    #: Whether its items are known, or it has been refused: what `remaining` says means nothing before.
    is_prepared: bool = False
    #: What has come back, by item index.
    rows: list[Mapping[Kind, Piece] | None] = field(default_factory=list)
    remaining: int = 0
    tokens: int = 0
    truncations: Sequence[Truncation] = ()
    error: MillraceError | None = None
    #: Its trace, see `shared.jobs.Task`.
    traceparent: str = ""
    #: The answer of a request for the tokenizer alone.
    output: Output | None = None
    #: Its images, read, in the places of its inputs.
    pixels: list[Pixels | None] = field(default_factory=list)
    tokenization_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether it can be answered."""
        return self.is_prepared and self.remaining == 0

    def ran(self, seconds: float, inference_s: float) -> None:
        """Note that a batch with items of it is done.

        What it says of its time is what the last of its batches says: those before, perhaps at the same time, are what this
        one waited for.

        Args:
            seconds: Since it was tokenised.
            inference_s: That the batch itself took.
        """
        self.inference_s = min(inference_s, seconds)
        self.queue_s = seconds - self.inference_s

    def kinds(self, card: ModelCard) -> Sequence[Kind]:
        """What the engine has to make of its items."""
        if isinstance(self.request, EmbedRequest):
            return [Kind(kind) for kind in self.request.kinds]
        return [scoring.kind_of(card)]

    def reply(self, card: ModelCard, int8_ranges: Float32Array | None = None) -> Reply:
        """The answer: vectors or scores as little-endian numbers, or the error.

        Args:
            card: The model's.
            int8_ranges: Its calibration, shape (2, dimensions).
        """
        if self.error is not None:
            return self.error
        if self.output is not None:
            return replace(self.output, timings=self._timings())
        kinds = self.kinds(card)
        pieces = {kind: [row[kind] for row in self.rows if row is not None] for kind in kinds}
        flat = [piece.values.ravel() for of_kind in pieces.values() for piece in of_kind]
        if not np.isfinite(np.concatenate(flat)).all():
            return InferenceFailed("the model returned values that are not finite")
        values = np.empty((len(self.rows), 0), np.float32)
        quantized: dict[str, bytes] = {}
        wants_float32 = True
        scored_by = ""
        match self.request:
            case EmbedRequest(precisions=precisions):
                if Kind.DENSE in kinds:
                    values = _vectors(stacked(pieces[Kind.DENSE]), self.request)
                    if Precision.FLOAT16 in precisions and np.abs(values).max() > np.finfo(np.float16).max:
                        return UnsupportedByModel(
                            "a vector leaves float16's range; ask for float32 or normalised vectors"
                        )
                    for name in precisions:
                        if name != Precision.FLOAT32:
                            quantized[name] = quantize(values, Precision(name), int8_ranges).tobytes()
                    wants_float32 = Precision.FLOAT32 in precisions
            case RerankRequest():
                values = scoring.scores(card, pieces[kinds[0]], raw=self.request.raw_scores)
                if not self.request.raw_scores and card.scoring != "logit":
                    scored_by = card.scoring
            case ClassifyRequest():
                values = scoring.label_scores(card, stacked(pieces[Kind.SCORES]), raw=self.request.raw_scores)
        return Output(
            shape=values.shape,
            data=np.ascontiguousarray(values, dtype="<f4").tobytes() if wants_float32 else b"",
            tokens=self.tokens,
            truncated=len(self.truncations),
            truncations=tuple(self.truncations),
            labels=tuple(card.labels) if isinstance(self.request, ClassifyRequest) else (),
            timings=self._timings(),
            sparse=_ragged(pieces.get(Kind.SPARSE)),
            multivector=_ragged(pieces.get(Kind.MULTIVECTOR)),
            quantized=quantized,
            scoring=scored_by,
        )

    def _timings(self) -> Timings:
        held_s = time.monotonic() - self.task.accepted_at
        return Timings(self.queue_s, self.tokenization_s, self.inference_s, self.task.received_at, held_s)


@dataclass(slots=True, eq=False)
class TaskWork:
    """One Celery message in the worker."""

    task_id: str
    delivery_tag: str
    task: Task
    requests: list[RequestWork] = field(default_factory=list)
    started: bool = False
    #: Whether it was part of a batch that failed: what is done of it does not wait for the rest then.
    is_troubled: bool = False
    #: Whether its requests are run one after the other.
    is_in_turn: bool = False
    #: Of its inputs that an engine process died of.
    letters: list[DeadLetter] = field(default_factory=list)
    #: When it came, by the clock on the wall (Unix seconds) and by the monotonic one.
    received_at: float = field(default_factory=time.time)
    accepted_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, task_id: str, delivery_tag: str, task: Task) -> "TaskWork":
        """Work for a task that has just been received."""
        work = cls(task_id, delivery_tag, task)
        traceparents = task.traceparents or [""] * len(task.requests)
        work.requests = [
            RequestWork(request, work, traceparent=traceparent)
            for request, traceparent in zip(task.requests, traceparents, strict=True)
        ]
        return work

    @property
    def lane(self) -> Lane:
        """Its lane."""
        return self.task.lane

    @property
    def done(self) -> list[int]:
        """Positions of its requests that can be answered."""
        return [position for position, work in enumerate(self.requests) if work.is_done]

    def summary(self) -> str:
        """What Flower shows as the task's result."""
        failed = sum(work.error is not None for work in self.requests)
        items = sum(len(work.rows) for work in self.requests)
        tokens = sum(work.tokens for work in self.requests)
        text = f"requests={len(self.requests)} items={items} tokens={tokens}"
        return f"{text} failed={failed}" if failed else text


def _ragged(pieces: Sequence[Piece] | None) -> Ragged | None:
    if pieces is None:
        return None
    indices = [piece.indices for piece in pieces if piece.indices is not None]
    return Ragged(
        counts=np.array([len(piece.values) for piece in pieces], "<i4").tobytes(),
        values=np.concatenate([piece.values for piece in pieces]).astype("<f4").tobytes(),
        width=pieces[0].values.shape[1],
        indices=np.concatenate(indices).astype("<i4").tobytes() if indices else None,
    )


def _vectors(rows: Float32Array, request: EmbedRequest) -> Float32Array:
    """Matryoshka: slice first, then normalise, as OpenAI and TEI do."""
    if request.dimensions is not None:
        rows = rows[:, : request.dimensions]
    return scoring.normalized(rows) if request.normalize else rows
