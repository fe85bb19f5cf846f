"""What routes answer when they fail, as the OpenAPI document has it.

Nothing is written down twice: statuses, bodies and headers are those that the dialects give the errors themselves.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from api import wire
from api.response_headers import LIMITS, referred
from shared.errors import (
    BatchTooLarge,
    BodyTooLarge,
    BodyTooSlow,
    Conflict,
    ContradictoryFields,
    DeadlineExceeded,
    EmptyInput,
    Forbidden,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    ImageUnavailable,
    InferenceFailed,
    InputTooLong,
    InvalidImage,
    InvalidJson,
    InvalidRequest,
    JobsOff,
    MillraceError,
    ModelNotFound,
    NotStored,
    OutOfMemory,
    Overloaded,
    RateLimited,
    StorageFull,
    StorageUnavailable,
    TokenInputUnsupported,
    Unauthenticated,
    Unavailable,
    UnknownSink,
    UnsupportedByModel,
    UnsupportedMediaType,
    WorkerLost,
    WrongTask,
)

Errors = Sequence[type[MillraceError]]

#: In which a request may end before a route has seen it, and where nobody knows what went wrong.
OF_ALL: Errors = (Unauthenticated, Forbidden, MillraceError)
#: In which a request to a model may end.
OF_MODELS: Errors = (
    *OF_ALL,
    InvalidRequest,
    InvalidJson,
    EmptyInput,
    ContradictoryFields,
    UnsupportedByModel,
    TokenInputUnsupported,
    InputTooLong,
    InvalidImage,
    ImageUnavailable,
    WrongTask,
    ModelNotFound,
    UnsupportedMediaType,
    BodyTooSlow,
    BatchTooLarge,
    BodyTooLarge,
    OutOfMemory,
    Overloaded,
    RateLimited,
    InferenceFailed,
    WorkerLost,
    Unavailable,
    DeadlineExceeded,
)
#: In which a look at bulk work may end.
OF_BULK: Errors = (*OF_ALL, InvalidRequest, NotStored, Conflict, Unavailable, StorageUnavailable)
#: In which a change of it may end besides.
OF_BULK_CHANGES: Errors = (
    *OF_BULK,
    InvalidJson,
    EmptyInput,
    ContradictoryFields,
    UnsupportedByModel,
    WrongTask,
    UnknownSink,
    ModelNotFound,
    IdempotencyKeyInUse,
    BatchTooLarge,
    BodyTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    RateLimited,
    StorageFull,
    JobsOff,
)

_CHALLENGE = "www-authenticate"


class ErrorForm(Protocol):
    """How errors are told: a dialect, or `wire.NestedErrors` by itself."""

    error_body: type[BaseModel]

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        ...


def error_responses(forms: Iterable[ErrorForm], errors: Errors) -> dict[int | str, dict[str, Any]]:
    """The answers to errors, by status.

    Args:
        forms: In which a route may tell them; of those with the same body the first counts.
        errors: In which it may end.
    """
    distinct = {form.error_body: form for form in reversed(list(forms))}
    told: dict[int, list[tuple[type[BaseModel], type[MillraceError], dict[str, Any]]]] = {}
    for body, form in reversed(distinct.items()):
        for kind in errors:
            status, problem = form.render_error(kind())
            told.setdefault(status, []).append((body, kind, problem))
    return {status: _response(entries) for status, entries in sorted(told.items())}


def _response(told: Sequence[tuple[type[BaseModel], type[MillraceError], dict[str, Any]]]) -> dict[str, Any]:
    bodies = list(dict.fromkeys(body for body, _, _ in told))
    kinds = list(dict.fromkeys(kind for _, kind, _ in told))
    schemas = [{"$ref": f"#/components/schemas/{body.__name__}"} for body in bodies]
    examples = {
        kind.code if len(bodies) == 1 else f"{kind.code} ({body.__name__})": {"summary": str(kind()), "value": problem}
        for body, kind, problem in told
    }
    return {
        # What is only a special case of another goes without saying.
        "description": " ".join(str(kind()) for kind in kinds if not any(other in kinds for other in kind.__mro__[1:])),
        "content": {
            "application/json": {
                "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
                "examples": examples,
            }
        },
        "headers": referred(_headers(kinds)),
    }


def _headers(kinds: Errors) -> list[str]:
    names = {name for kind in kinds for name in wire.retry_headers(kind())}
    if any(issubclass(kind, Overloaded | RateLimited) for kind in kinds):
        names |= {"retry-after", *LIMITS}
    if Unauthenticated in kinds:
        names.add(_CHALLENGE)
    return sorted(names)
