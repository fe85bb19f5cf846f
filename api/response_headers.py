"""Headers of answers, as the OpenAPI document has them: each is described once and referred to."""

from collections.abc import Iterable, Mapping
from typing import Any

_COUNT = {"type": "integer", "minimum": 0}
_NAME = {"type": "string", "minLength": 1}


def _header(description: str, schema: Mapping[str, Any], *, always: bool = False) -> dict[str, Any]:
    return {"description": description, **({"required": True} if always else {}), "schema": dict(schema)}


#: On every answer.
REQUEST_ID = "x-request-id"
#: What an answer of a model says of its making: TEI's headers ...
MEASURES: Mapping[str, dict[str, Any]] = {
    "x-compute-type": _header("Always `gpu+optimized`, as TEI says it.", _NAME, always=True),
    "x-compute-time": _header("Milliseconds from the request's first byte to its answer.", _COUNT, always=True),
    "x-compute-characters": _header("Characters of the inputs.", _COUNT, always=True),
    "x-compute-tokens": _header("Tokens that the model read, special ones included.", _COUNT, always=True),
    "x-total-time": _header("The same as `x-compute-time`.", _COUNT, always=True),
    "x-tokenization-time": _header("Milliseconds of tokenization.", _COUNT, always=True),
    "x-queue-time": _header("Milliseconds that the inputs waited for the model.", _COUNT, always=True),
    "x-inference-time": _header("Milliseconds of the model's passes.", _COUNT, always=True),
    # ... and what was lost.
    "x-truncated-inputs": _header(
        "How many inputs were longer than the model takes and were cut; absent where none was.",
        {"type": "integer", "minimum": 1},
    ),
}
#: What is left to a tenant that has limits, on the answers of all that costs it something.
LIMITS: Mapping[str, dict[str, Any]] = {
    f"x-ratelimit-{what}-{kind}": _header(f"{said} {kind}; absent without such a limit.", schema)
    for kind in ("requests", "tokens")
    for what, said, schema in (
        ("limit", "The key's limit of", _COUNT),
        ("remaining", "How many are left of the key's", _COUNT),
        ("reset", "In how many seconds, as `7s`, there are again all of the key's", {"type": "string"}),
    )
} | {
    "ratelimit-limit": _header("The limit of requests, or else of tokens, in the words of the IETF's draft.", _COUNT),
    "ratelimit-remaining": _header("How much of that is left.", _COUNT),
    "ratelimit-reset": _header("In how many seconds all of that is there again.", _COUNT),
}
_ALL: Mapping[str, dict[str, Any]] = {
    REQUEST_ID: _header(
        "The id that the request came with, or a fresh one: it names the request in the logs.", _NAME, always=True
    ),
    **MEASURES,
    **LIMITS,
    "retry-after": _header("After how many seconds a retry makes sense.", {"type": "integer", "minimum": 1}),
    "x-should-retry": _header(
        "Whether the same request may succeed later; OpenAI's clients obey it.",
        {"type": "string", "enum": ["true", "false"]},
    ),
    "www-authenticate": _header("How to send a key.", _NAME, always=True),
    # Of bulk work
    "location": _header("Path of the job that was made.", _NAME),
    "x-webhook-secret": _header("The secret that was made for a webhook that came without one; told this once.", _NAME),
    "idempotency-replayed": _header(
        "`true` where this is the answer of an earlier request with the same `Idempotency-Key`.",
        {"type": "string", "enum": ["true"]},
    ),
    "x-next-offset": _header("The `offset` from which further results are asked for; absent with `follow`.", _COUNT),
}


def components() -> dict[str, dict[str, Any]]:
    """All of them, for the document."""
    return {name: dict(header) for name, header in _ALL.items()}


def referred(names: Iterable[str]) -> dict[str, Any]:
    """Headers of an answer.

    Args:
        names: Of those that are described here.
    """
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
