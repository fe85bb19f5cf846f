"""Pieces of JSON that several dialects share: error bodies, rankings, input checks."""

import secrets
import time
from collections.abc import Sequence, Sized
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ValidationError

from api.error_bodies import NestedError
from api.faults import first_fault
from api.places import field_of
from shared import arrays
from shared.errors import (
    BodyTooSlow,
    EmptyInput,
    InferenceFailed,
    InvalidRequest,
    MillraceError,
    Overloaded,
    RateLimited,
    TokenInputUnsupported,
    Unavailable,
    WrongTask,
)
from shared.results import Output

Float32Array = npt.NDArray[np.float32]


#: TEI's names of errors, capitalised as it sends them; the first class that fits counts. Of the others a status below 500
#: says that the request is at fault.
_ERROR_TYPES: tuple[tuple[type[MillraceError], str], ...] = (
    (EmptyInput, "Empty"),
    (WrongTask, "Backend"),
    (InferenceFailed, "Backend"),
    (Overloaded, "Overloaded"),
    (RateLimited, "Overloaded"),
    (Unavailable, "Unhealthy"),
)

#: Statuses below 500 after which OpenAI's clients try again by themselves, unless a header says otherwise.
_RETRIED = frozenset({408, 409, 429})
#: What a caller is told of a fault of ours.
CRASHED = "internal error; the request id names it in the logs"

BodyT = TypeVar("BodyT", bound=BaseModel)


class Usage(BaseModel):
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


def dumps(value: Any) -> bytes:
    """JSON bytes; numpy arrays become lists of shortest float32 decimals."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


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


def validated(body: type[BodyT], data: Any, *, strict: bool | None = None) -> BodyT:
    """A request's data as its model.

    Args:
        body: The model.
        data: Of the request.
        strict: True where values are of the documented types, as in JSON; in a query all are text. None: as the model says.

    Raises:
        InvalidRequest: It does not fit; the first place at fault is named.
    """
    try:
        return body.model_validate(data, strict=strict)
    except ValidationError as err:
        path, message = first_fault(err, data)
        # The outermost field: what clients have as `param` is one of the request's.
        param = field_of(path).split(".")[0] or None
        raise InvalidRequest(f"`{path}`: {message}" if path else message, param=param) from err


def labels(output: Output) -> list[list[dict[str, Any]]]:
    """A classifier's labels with their scores for each input, best first."""
    return [
        [{"score": score, "label": output.labels[index]} for index, score in ranking(scores, None)]
        for scores in arrays.rows(output)
    ]


def refuse_empty(texts: Sequence[Sized], param: str, images: Sequence[str | None] | None = None) -> None:
    """Refuse an empty list, and a list with an empty text (or list of token ids) that is not in an image's place.

    Raises:
        EmptyInput: With the position of the first empty text.
    """
    refuse_none(texts, param)
    for index, text in enumerate(texts):
        if not text and (images is None or not images[index]):
            where = f"`{param}[{index}]`" if len(texts) > 1 else f"`{param}`"
            raise EmptyInput(f"{where} cannot be empty", param=param)


def refuse_none(texts: Sequence[Sized], param: str) -> None:
    """Refuse an empty list; texts in it may be empty. Of documents to rank one may be, and the others still have scores.

    Raises:
        EmptyInput: There is no text.
    """
    if not texts:
        raise EmptyInput(f"`{param}` cannot be empty", param=param)


def token_ids_refused(param: str) -> TokenInputUnsupported:
    """The error for token ids in the place of texts."""
    does = "send text (LangChain: check_embedding_ctx_length=False)"
    return TokenInputUnsupported(f"`{param}` has token ids, which are not supported; {does}", param=param)


def flat_error(error: MillraceError) -> dict[str, Any]:
    """The error body of TEI and of the clients that want `error` to be a string: Weaviate, Qdrant, Ollama, Hugging Face."""
    error_type = next((name for kind, name in _ERROR_TYPES if isinstance(error, kind)), None)
    error_type = error_type or ("Validation" if error.status < 500 else "Backend")
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
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": "rate_limit_exceeded" if error.status == 429 else kind,
            "param": error.param,
            "code": error.code,
        },
        "detail": error.message,
        "message": error.message,
    }


def error_headers(error: MillraceError) -> dict[str, str]:
    """Headers of an error's answer: those of `retry_headers`, and that the connection ends where it does."""
    headers = retry_headers(error)
    if isinstance(error, BodyTooSlow):
        headers["connection"] = "close"  # where the next request would begin nobody knows
    return headers


def retry_headers(error: MillraceError) -> dict[str, str]:
    """Headers that tell a client whether and when trying again makes sense."""
    headers: dict[str, str] = {}
    if error.status in _RETRIED or error.status >= 500:
        headers["x-should-retry"] = str(error.retryable).lower()
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return headers


class NestedErrors:
    """A dialect whose errors are OpenAI's nested object, with Jina's and Voyage's `detail` and Cohere's `message`."""

    error_body: type[BaseModel] = NestedError

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        return error.status, nested_error(error)
