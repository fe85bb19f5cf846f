"""What travels back: one reply per request, in the order of the task's requests. Arrays are little-endian float32 bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from typing import Any

from shared import CONTRACT_VERSION
from shared.errors import MillraceError, from_wire


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds: one after the other, so that they never add up to more than it took.

    Of several batches, and of the parts of a request that was cut, it is the time of the one that was done last.
    """

    # Tokenised, in the worker's lane or behind other batches on the device. In the gateway all that was waited before, too.
    queue_s: float = 0.0
    tokenization_s: float = 0.0
    inference_s: float = 0.0  # forward pass of its batch
    # When the worker had its task, in Unix seconds by the worker's clock; 0 where it does not say.
    received_at: float = 0.0
    held_s: float = 0.0  # from then until its reply was made


class Kind(StrEnum):
    """What a model can make of a text."""

    DENSE = "dense"  # one vector
    SPARSE = "sparse"  # weights of some entries of the vocabulary
    MULTIVECTOR = "multivector"  # one vector per token (late interaction)
    SCORES = "scores"  # one logit per label


class Precision(StrEnum):
    """Number formats of dense vectors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"  # one bit a dimension, eight to a byte, as int8
    UBINARY = "ubinary"  # the same as uint8


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of which each item has its own number. Arrays are little-endian, row-major bytes."""

    #: Rows of each item, int32, shape (items,).
    counts: bytes
    #: float32, shape (rows, width); `width` is 1 for sparse weights.
    values: bytes
    width: int
    #: Vocabulary entry of each row, int32, shape (rows,); None for multi-vectors.
    indices: bytes | None = None


#: What writing down a token costs, beside numbers of four bytes.
BYTES_PER_TOKEN = 64


@dataclass(frozen=True, slots=True)
class Truncation:
    """An input that was longer than the model takes."""

    #: Its position among the request's inputs, or `QUERY`.
    index: int
    #: Tokens that it has, special tokens included; of a pair, tokens of both. At least so many where it has more characters
    #: than are looked at.
    original_tokens: int
    #: Tokens that the model read of it.
    tokens: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and where in the text it stands."""

    id: int
    #: The part of the text that it is; of a special token its name.
    text: str
    #: Whether it was put around the text.
    special: bool
    #: Where it begins and ends in the text with its prompt, in bytes of UTF-8; None for special tokens.
    start: int | None
    stop: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Rows of a request: vectors of shape (items, dimensions), label scores (items, labels) or scores (items,)."""

    shape: tuple[int, ...]
    #: Little-endian float32, row-major, `prod(shape)` values; empty when no such numbers were asked for.
    data: bytes
    #: Tokens that the model read, special tokens included.
    tokens: int
    #: How many inputs were cut to the model's maximum length.
    truncated: int = 0
    timings: Timings = Timings()
    #: What the columns of label scores are.
    labels: tuple[str, ...] = ()
    #: Sparse vectors, when asked for.
    sparse: Ragged | None = None
    #: A vector per token, when asked for.
    multivector: Ragged | None = None
    #: The dense vectors in other precisions, when asked for: little-endian, row-major.
    quantized: Mapping[str, bytes] = field(default_factory=dict)
    #: The inputs that were cut, as far as the worker tells; `truncated` counts them in any case.
    truncations: tuple[Truncation, ...] = ()
    #: The tokens of each text of a tokenize request.
    token_lists: tuple[tuple[Token, ...], ...] = ()
    #: The texts of a decode request.
    texts: tuple[str, ...] = ()
    #: How the model scored documents (a card's `scoring`), where its scores are still to be brought between 0 and 1. Whoever
    #: shows them does that: they are in order before, and need not be after.
    scoring: str = ""

    @property
    def size(self) -> int:
        """Bytes of its numbers and texts; a token counts as `BYTES_PER_TOKEN`."""
        ragged = sum(len(rows.values) + len(rows.indices or b"") for rows in (self.sparse, self.multivector) if rows)
        tokens = BYTES_PER_TOKEN * sum(map(len, self.token_lists))
        return len(self.data) + sum(map(len, self.quantized.values())) + ragged + tokens + sum(map(len, self.texts))


Reply = Output | MillraceError

_RAGGED = ("sparse", "multivector")


def replies_to_wire(replies: Sequence[Reply]) -> dict[str, Any]:
    """The Celery result of a task."""
    return {"v": CONTRACT_VERSION, "replies": [_reply_to_wire(reply) for reply in replies]}


def replies_from_wire(data: Mapping[str, Any]) -> list[Reply]:
    """Read what `replies_to_wire` wrote."""
    return [_reply_from_wire(entry) for entry in data["replies"]]


def _reply_to_wire(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, MillraceError):
        return {"error": reply.to_wire()}
    timings = reply.timings
    return {
        "shape": reply.shape,
        "data": reply.data,
        "tokens": reply.tokens,
        "truncated": reply.truncated,
        # Apart, because gateways of before know three timings and no more.
        "timings": (timings.queue_s, timings.tokenization_s, timings.inference_s),
        "held": (timings.received_at, timings.held_s),
        "labels": list(reply.labels),
        "quantized": dict(reply.quantized),
        "truncations": [(cut.index, cut.original_tokens, cut.tokens) for cut in reply.truncations],
        **{name: astuple(rows) for name in _RAGGED if (rows := getattr(reply, name)) is not None},
        **({"scoring": reply.scoring} if reply.scoring else {}),
        **_tokenizer_output(reply),
    }


def _tokenizer_output(reply: Output) -> dict[str, Any]:
    """What only answers of a tokenizer have."""
    if not reply.token_lists and not reply.texts:
        return {}
    # By hand: `astuple` copies deeply, and there is one for each token.
    lists = [
        [(token.id, token.text, token.special, token.start, token.stop) for token in of] for of in reply.token_lists
    ]
    return {"token_lists": lists, "texts": reply.texts}


def _reply_from_wire(entry: Mapping[str, Any]) -> Reply:
    if "error" in entry:
        return from_wire(entry["error"])
    return Output(
        shape=tuple(entry["shape"]),
        data=entry["data"],
        tokens=entry["tokens"],
        truncated=entry.get("truncated", 0),
        timings=Timings(*entry.get("timings", (0.0, 0.0, 0.0)), *entry.get("held", ())),
        labels=tuple(entry.get("labels", ())),
        quantized=entry.get("quantized", {}),
        truncations=tuple(Truncation(*cut) for cut in entry.get("truncations", ())),
        token_lists=tuple(tuple(Token(*token) for token in of) for of in entry.get("token_lists", ())),
        texts=tuple(entry.get("texts", ())),
        scoring=entry.get("scoring", ""),
        **{name: Ragged(*entry[name]) for name in _RAGGED if name in entry},
    )
