"""Pieces of JSON that several dialects share: vectors, error bodies, input checks."""

import base64
import secrets
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ValidationError

from shared.errors import (
    EmptyInput,
    InvalidRequest,
    MillraceError,
    ModelNotFound,
    Overloaded,
    Unavailable,
    WrongTask,
)
from shared.results import Output, Precision, Ragged

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]


#: How numpy calls the formats of quantised vectors.
_DTYPES = {
    Precision.FLOAT16: "<f2",
    Precision.INT8: "i1",
    Precision.UINT8: "u1",
    Precision.BINARY: "i1",
    Precision.UBINARY: "u1",
}


#: TEI's names of errors, capitalised as it sends them; the first class that fits counts.
_ERROR_TYPES: tuple[tuple[type[MillraceError], str], ...] = (
    (EmptyInput, "Empty"),
    (WrongTask, "Backend"),
    (InvalidRequest, "Validation"),
    (ModelNotFound, "Validation"),
    (Overloaded, "Overloaded"),
    (Unavailable, "Unhealthy"),
)

BodyT = TypeVar("BodyT", bound=BaseModel)


class Usage(BaseModel):
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


def rows(output: Output) -> Float32Array:
    """The output as an array of its shape, without a copy."""
    return np.frombuffer(output.data, dtype="<f4").reshape(output.shape)


def vectors(output: Output, precision: str) -> npt.NDArray[Any]:
    """Dense vectors in a precision that was asked for, one row each, without a copy."""
    if precision == Precision.FLOAT32:
        return rows(output)
    return np.frombuffer(output.quantized[precision], _DTYPES[Precision(precision)]).reshape(output.shape[0], -1)


def sparse_rows(output: Output) -> list[tuple[Int32Array, Float32Array]]:
    """The sparse vector of each item: entries of the vocabulary, shape (n,), and their weights, shape (n, 1)."""
    ragged = output.sparse
    if ragged is None or ragged.indices is None:
        raise ValueError("the output has no sparse vectors")
    indices = np.split(np.frombuffer(ragged.indices, "<i4"), _ends(ragged))
    return list(zip(indices, _values(ragged), strict=True))


def token_rows(output: Output) -> list[Float32Array]:
    """The multi-vector of each item, shape (its tokens, width)."""
    if output.multivector is None:
        raise ValueError("the output has no multi-vectors")
    return _values(output.multivector)


def _values(ragged: Ragged) -> list[Float32Array]:
    return np.split(np.frombuffer(ragged.values, "<f4").reshape(-1, ragged.width), _ends(ragged))


def _ends(ragged: Ragged) -> Int32Array:
    """Where each item but the last ends."""
    ends: Int32Array = np.cumsum(np.frombuffer(ragged.counts, "<i4"))[:-1]
    return ends


def dumps(value: Any) -> bytes:
    """JSON bytes; numpy arrays become lists of shortest float32 decimals."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def base64_vector(row: npt.NDArray[Any]) -> str:
    """A vector as OpenAI's base64: its little-endian bytes."""
    return base64.b64encode(row.tobytes()).decode("ascii")


def usage(tokens: int) -> dict[str, int]:
    """`Usage` of so many tokens; nothing is generated, so all are the prompt's."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def envelope(prefix: str, kind: str, model: str, tokens: int) -> dict[str, Any]:
    """What stands beside the rows of an answer in the style of OpenAI.

    Args:
        prefix: Of its id.
        kind: Its `object`.
        model: As it was asked for.
        tokens: That the model read.
    """
    return {
        "id": identifier(prefix),
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "usage": usage(tokens),
    }


def identifier(prefix: str) -> str:
    """A fresh opaque id."""
    return f"{prefix}-{secrets.token_hex(12)}"


def ranking(scores: Float32Array, top_n: int | None) -> list[tuple[int, np.float32]]:
    """(index, score) best first, ties in input order; all of them when `top_n` is None, not positive or too large."""
    order = np.argsort(-scores, kind="stable")
    if top_n is not None and top_n > 0:
        order = order[:top_n]
    return [(int(index), scores[index]) for index in order]


def validated(body: type[BodyT], data: Any) -> BodyT:
    """A request's data as its model.

    Raises:
        InvalidRequest: It does not fit; the first field at fault is named.
    """
    try:
        return body.model_validate(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False)[0]
        # The first element names the field; what follows are branches of a union and positions.
        field = str(first["loc"][0]) if first["loc"] else None
        raise InvalidRequest(f"`{field}`: {first['msg']}" if field else first["msg"], param=field) from err


def labels(output: Output) -> list[list[dict[str, Any]]]:
    """A classifier's labels with their scores for each input, best first."""
    return [
        [{"score": score, "label": output.labels[index]} for index, score in ranking(scores, None)]
        for scores in rows(output)
    ]


def refuse_empty(texts: Sequence[str], param: str, images: Sequence[str | None] | None = None) -> None:
    """Refuse an empty list, and a list with an empty text that is not in an image's place.

    Raises:
        EmptyInput: With the position of the first empty text.
    """
    refuse_none(texts, param)
    for index, text in enumerate(texts):
        if not text and (images is None or not images[index]):
            where = f"`{param}[{index}]`" if len(texts) > 1 else f"`{param}`"
            raise EmptyInput(f"{where} cannot be empty", param=param)


def refuse_none(texts: Sequence[str], param: str) -> None:
    """Refuse an empty list; texts in it may be empty. Of documents to rank one may be, and the others still have scores.

    Raises:
        EmptyInput: There is no text.
    """
    if not texts:
        raise EmptyInput(f"`{param}` cannot be empty", param=param)


def flat_error(error: MillraceError) -> dict[str, Any]:
    """The error body of TEI and of the clients that want `error` to be a string: Weaviate, Qdrant, Ollama, Hugging Face."""
    error_type = next((name for kind, name in _ERROR_TYPES if isinstance(error, kind)), "Backend")
    return {
        "error": error.message,
        "error_type": error_type,
        "detail": error.message,
        "message": error.message,
        "type": error_type,
        "code": error.code,
    }


def nested_error(error: MillraceError) -> dict[str, Any]:
    """The error body of the OpenAI family; `detail` and `message` are what Jina's and Cohere's clients read."""
    kind = {
        429: "rate_limit_exceeded",
        404: "invalid_request_error",
        400: "invalid_request_error",
        413: "invalid_request_error",
    }
    return {
        "error": {
            "message": error.message,
            "type": kind.get(error.status, "server_error"),
            "param": error.param,
            "code": error.code,
        },
        "detail": error.message,
        "message": error.message,
    }


class NestedErrors:
    """A dialect whose errors are OpenAI's nested object, with Jina's and Voyage's `detail` and Cohere's `message`."""

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        return error.status, nested_error(error)
