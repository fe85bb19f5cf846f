"""What travels to a worker: requests of one operation, model and lane, gathered in one task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared import CONTRACT_VERSION
from shared.errors import MillraceError
from shared.field_types import checks_of, wrong_field
from shared.queues import Lane, Operation
from shared.results import Kind, Precision

#: What an image counts as before a model has said how many tokens it makes of one.
CHARACTERS_PER_IMAGE = 1024
#: Of a large image so many bytes count as one character, so that a task stays a message of a few megabytes.
BYTES_PER_CHARACTER = 64


class ContractMismatch(MillraceError):
    """The message was written by an incompatible version; upgrade the older side."""

    code = "contract_mismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Texts of one HTTP call that want vectors."""

    request_id: str
    #: Unix seconds after which nobody waits for the answer.
    deadline: float
    texts: Sequence[str]
    #: Cut texts that are too long (True) or refuse them (False).
    truncate: bool = True
    #: The side at which they are cut, `right` or `left`.
    truncation_side: str = "right"
    #: Most tokens that are read of each, special ones included; None: as many as the model takes.
    max_tokens: int | None = None
    #: Scale each vector to unit length.
    normalize: bool = True
    #: Keep only the first so many dimensions (then normalise again).
    dimensions: int | None = None
    #: Kinds of vectors that are wanted (values of `Kind`).
    kinds: Sequence[str] = field(default_factory=lambda: [Kind.DENSE])
    #: What the texts are, `query` or `document`: chooses the model's prompt for it, and its side of late interaction.
    input_type: str | None = None
    #: One of the model's prompts by name; goes before `input_type`'s.
    prompt_name: str | None = None
    #: Others, of which the first that the model has is taken; goes after `prompt_name` and before `input_type`.
    prompt_names: Sequence[str] = field(default_factory=list)
    #: Text to put in front of each text; goes before any named prompt.
    prompt: str | None = None
    #: Number formats in which the dense vectors are wanted (values of `Precision`).
    precisions: Sequence[str] = field(default_factory=lambda: [Precision.FLOAT32])
    #: Read the texts as one document, so that each one's vector knows what surrounds it.
    late_chunking: bool = False
    #: Image files in the places of texts (which are then empty), None elsewhere; None when there are none.
    images: Sequence[bytes | None] | None = None
    #: The model's own token ids, special tokens included, in the places of texts (which are then empty), None elsewhere;
    #: None when there are none.
    token_ids: Sequence[Sequence[int] | None] | None = None

    @property
    def items(self) -> int:
        """Number of texts and images."""
        return len(self.texts)

    @property
    def sizes(self) -> list[int]:
        """Characters of each input; an image counts as `CHARACTERS_PER_IMAGE`, a large file as more."""
        if self.token_ids is not None:
            return [
                len(text) if ids is None else CHARACTERS_PER_TOKEN * len(ids)
                for text, ids in zip(self.texts, self.token_ids, strict=True)
            ]
        images = self.images or [None] * len(self.texts)
        pairs = zip(self.texts, images, strict=True)
        return [
            len(text) if image is None else max(CHARACTERS_PER_IMAGE, len(image) // BYTES_PER_CHARACTER)
            for text, image in pairs
        ]

    @property
    def characters(self) -> int:
        """Number of characters of all inputs."""
        return sum(map(len, self.texts)) if self.images is None and self.token_ids is None else sum(self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """One query with the documents to score against it."""

    request_id: str
    deadline: float
    query: str
    documents: Sequence[str]
    #: Cut documents that are too long (True) or refuse them (False). The query is never cut.
    truncate: bool = True
    #: The side at which they are cut, `right` or `left`.
    truncation_side: str = "right"
    #: Most tokens that are read of a document with its query, special ones included; None: as many as the model takes.
    max_tokens: int | None = None
    #: Most tokens that are read of a document, counted without all that is put around it.
    max_document_tokens: int | None = None
    #: Scores as the model gives them (True) or mapped to 0..1 (False).
    raw_scores: bool = False
    #: The task in words, for models whose template has a place for it.
    instruction: str | None = None

    @property
    def items(self) -> int:
        """Number of documents."""
        return len(self.documents)

    @property
    def sizes(self) -> list[int]:
        """Characters of each pair."""
        return [len(self.query) + len(document) for document in self.documents]

    @property
    def characters(self) -> int:
        """Number of characters of all pairs: the query counts with each document."""
        return len(self.query) * len(self.documents) + sum(map(len, self.documents))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyRequest:
    """Texts, or pairs of texts, that want a score for each of the model's labels."""

    request_id: str
    deadline: float
    texts: Sequence[str]
    #: The second text of each pair, None for a single text; None when all are single.
    seconds: Sequence[str | None] | None = None
    #: Cut texts that are too long (True) or refuse them (False).
    truncate: bool = True
    #: The side at which they are cut, `right` or `left`.
    truncation_side: str = "right"
    #: Most tokens that are read of each text or pair, special ones included; None: as many as the model takes.
    max_tokens: int | None = None
    #: Logits (True) or probabilities (False).
    raw_scores: bool = False

    @property
    def items(self) -> int:
        """Number of texts or pairs."""
        return len(self.texts)

    @property
    def sizes(self) -> list[int]:
        """Characters of each text or pair."""
        seconds = self.seconds or [None] * len(self.texts)
        return [len(text) + len(second or "") for text, second in zip(self.texts, seconds, strict=True)]

    @property
    def characters(self) -> int:
        """Number of characters of all texts."""
        return sum(map(len, self.texts)) + sum(len(second or "") for second in self.seconds or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """Texts that want their tokens, uncut."""

    request_id: str
    deadline: float
    texts: Sequence[str]
    #: Whether the tokens that the model wants around each text are among them.
    add_special_tokens: bool = True
    #: One of the model's prompts by name, put in front of each text.
    prompt_name: str | None = None

    @property
    def items(self) -> int:
        """Number of texts."""
        return len(self.texts)

    @property
    def sizes(self) -> list[int]:
        """Characters of each text."""
        return list(map(len, self.texts))

    @property
    def characters(self) -> int:
        """Number of characters of all texts."""
        return sum(map(len, self.texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """Token ids of the model's own vocabulary that want their texts."""

    request_id: str
    deadline: float
    #: One list for each text.
    ids: Sequence[Sequence[int]]
    #: Leave the special tokens out of the texts.
    skip_special_tokens: bool = True

    @property
    def items(self) -> int:
        """Number of texts."""
        return len(self.ids)

    @property
    def sizes(self) -> list[int]:
        """Token ids of each list."""
        return list(map(len, self.ids))

    @property
    def characters(self) -> int:
        """Number of ids, as TEI counts them."""
        return sum(map(len, self.ids))


#: What the model is run for, and what its tokenizer answers alone.
InferenceRequest = EmbedRequest | RerankRequest | ClassifyRequest
TokenizerRequest = TokenizeRequest | DecodeRequest
Request = InferenceRequest | TokenizerRequest

#: Characters per token of the model's maximum that are looked at. A megabyte is not tokenised to keep 512 tokens; the
#: factor is TEI's.
CHARACTERS_PER_MAX_TOKEN = 250
#: Rough characters per token of English subword vocabularies.
CHARACTERS_PER_TOKEN = 4
#: Special tokens around each text, roughly.
TOKENS_PER_ITEM = 2


def estimated_tokens(characters: int, items: int) -> int:
    """Tokens of some texts, roughly: sizes tasks and buffers before a tokenizer has counted."""
    return characters // CHARACTERS_PER_TOKEN + TOKENS_PER_ITEM * items


_REQUEST_TYPES: dict[Operation, type[Request]] = {
    Operation.EMBED: EmbedRequest,
    Operation.RERANK: RerankRequest,
    Operation.CLASSIFY: ClassifyRequest,
    Operation.TOKENIZE: TokenizeRequest,
    Operation.DECODE: DecodeRequest,
}
_CHECKS = {operation: checks_of(request_type) for operation, request_type in _REQUEST_TYPES.items()}
_OPERATIONS = {request_type: operation for operation, request_type in _REQUEST_TYPES.items()}


def operation_of(request: Request) -> Operation:
    """The operation that a request asks for."""
    return _OPERATIONS[type(request)]


def _traced(data: Mapping[str, Any], requests: int) -> dict[str, Any]:
    """What a task says of its traces; nothing where that is not what it should be, because nobody's answer depends on it."""
    parents, published_at = data.get("traceparents"), data.get("published_at")
    if not isinstance(parents, list) or len(parents) != requests or not isinstance(published_at, float):
        return {}
    if not all(isinstance(parent, str) for parent in parents):
        return {}
    return {"traceparents": parents, "published_at": published_at}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One Celery message. Its requests share an operation, a model and a lane; each is answered on its own."""

    model: str
    lane: Lane
    operation: Operation
    requests: Sequence[Request]
    #: The trace of each request, as W3C's `traceparent` says it; empty for one that is not traced. Nothing where none is.
    traceparents: Sequence[str] = ()
    #: Unix seconds, for traces; 0 where there are none.
    published_at: float = 0.0

    def to_wire(self) -> dict[str, Any]:
        """Keyword arguments of the Celery task."""
        traced = {"traceparents": list(self.traceparents), "published_at": self.published_at}
        return {
            "v": CONTRACT_VERSION,
            "model": self.model,
            "lane": str(self.lane),
            "operation": str(self.operation),
            # By hand: `asdict` copies deeply, and was an eighth of the gateway's time per task.
            "requests": [{name: getattr(request, name) for name in request.__slots__} for request in self.requests],
            **(traced if self.traceparents else {}),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "Task":
        """Read what `to_wire` wrote, ignoring fields that a newer minor version added.

        Raises:
            ContractMismatch: The body has another contract version, or a field of another type.
        """
        if data.get("v") != CONTRACT_VERSION:
            raise ContractMismatch(f"task contract {data.get('v')!r} is not {CONTRACT_VERSION}; upgrade the older side")
        operation = Operation(data["operation"])
        request_type = _REQUEST_TYPES[operation]
        known = request_type.__dataclass_fields__
        requests = [request_type(**{k: v for k, v in entry.items() if k in known}) for entry in data["requests"]]
        for request in requests:
            if (name := wrong_field(request, _CHECKS[operation])) is not None:
                raise ContractMismatch(f"`{name}` of a request is of another type than it should be")
        return cls(
            model=data["model"],
            lane=Lane(data["lane"]),
            operation=operation,
            requests=requests,
            **_traced(data, len(requests)),
        )

    def estimated_tokens(self) -> int:
        """Tokens of all its requests, roughly."""
        return sum(estimated_tokens(request.characters, request.items) for request in self.requests)

    def summary(self) -> str:
        """What Flower shows as the task's arguments: sizes, never texts."""
        items = sum(request.items for request in self.requests)
        # Flower shows the first sixty characters or so: a long model name goes last.
        return f"lane={self.lane} requests={len(self.requests)} items={items} model={self.model}"
