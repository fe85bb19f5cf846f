"""Warnings about inputs that were cut, for the dialects whose answers have a place for them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.dialect import Answer
from shared.places import QUERY


class Target(BaseModel):
    """The input that a warning is about."""

    field: str
    index: int | None = Field(description="Its position in the field; null where the field is a single text.")
    pointer: str = Field(description="The same as a JSON pointer into the request.")


class Details(BaseModel):
    """How much was cut, in tokens with special ones."""

    model: str
    max_tokens: int = Field(description="Tokens that the model read.")
    original_tokens: int = Field(
        description="Tokens that the input has; of a pair, tokens of both. A lower bound for texts of very many characters."
    )
    truncated_tokens: int = Field(description="Tokens that were cut off.")
    truncation_side: Literal["right", "left"]


class TruncationWarning(BaseModel):
    """An input that was longer than the model takes."""

    code: Literal["input_truncated"] = "input_truncated"
    severity: Literal["warning"] = "warning"
    message: str
    target: Target
    details: Details


def truncation_warnings(answer: Answer, field: str, *, side: str = "right") -> list[dict[str, Any]]:
    """`TruncationWarning`s of an answer's inputs, as plain objects.

    Args:
        answer: What came back. Several requests of it are several models on the same inputs.
        field: The request's field of the inputs; the query of a rerank request is in `query`.
        side: The side at which they were cut.
    """
    return [
        _warning(model, "query" if cut.index == QUERY else field, cut.index, cut.original_tokens, cut.tokens, side)
        for model, output in zip(answer.models, answer.outputs, strict=True)
        for cut in output.truncations
    ]


def _warning(model: str, field: str, index: int, original: int, read: int, side: str) -> dict[str, Any]:
    is_single = index == QUERY
    pointer = f"/{field}" if is_single else f"/{field}/{index}"
    return {
        "code": "input_truncated",
        "severity": "warning",
        "message": f"{field if is_single else f'{field}[{index}]'} has {original} tokens and {model} read {read} of them",
        "target": {"field": field, "index": None if is_single else index, "pointer": pointer},
        "details": {
            "model": model,
            "max_tokens": read,
            "original_tokens": original,
            "truncated_tokens": original - read,
            "truncation_side": side,
        },
    }
