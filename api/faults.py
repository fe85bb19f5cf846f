"""What is wrong with a body that does not fit its model, as its sender wrote it and not as the model is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

#: Sentences of pydantic's that speak of Python, by the types of its errors.
_SENTENCES = {
    "extra_forbidden": "there is no such option",
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
}


def first_fault(err: ValidationError, data: Any) -> tuple[str, str]:
    """Where the data is at fault first, and a sentence about it.

    Of a value that may be one of several things, the fault is the one of the thing that it is nearest to.

    Args:
        err: What pydantic says.
        data: What was validated.

    Returns:
        A path as one writes it, `inputs[0].model`, empty where it is about all of the data; and the sentence.
    """
    errors = err.errors(include_url=False, include_context=False)
    first = errors[0]
    branch = _branch(first, data)
    if branch is not None:
        alternatives = (error for error in errors if error["loc"][: len(branch)] == branch)
        first = max(alternatives, key=lambda error: _reach(error, data))
    # Our own validators' sentences say all that there is to say.
    said = first["msg"].removeprefix("Value error, ").replace(" after validation", "")
    sentence = _SENTENCES.get(first["type"], said)
    return _written(_path(first, data)), sentence


def _branch(error: ErrorDetails, data: Any) -> tuple[int | str, ...] | None:
    """The place of the first value that may be one of several things; None where there is none.

    There, and only there, pydantic's location has something that is not in the data: the name of one of the things.
    """
    location = error["loc"]
    for at, step in enumerate(location[:-1] if error["type"] == "missing" else location):
        if not _has(data, step):
            return location[:at]
        data = data[step]
    return None


def _reach(error: ErrorDetails, data: Any) -> tuple[int, int, bool]:
    """How far into the data a branch went before it failed: how deep, there how far along a list, and past its type."""
    path = _path(error, data)
    along = next((step for step in reversed(path) if isinstance(step, int)), 0)
    return len(path), along, not error["type"].endswith("_type")


def _path(error: ErrorDetails, data: Any) -> list[int | str]:
    """Those steps of an error's location that are in the data, and the field that should be."""
    path: list[int | str] = []
    for step in error["loc"]:
        if _has(data, step):
            path.append(step)
            data = data[step]
    return [*path, error["loc"][-1]] if error["type"] == "missing" else path


def _has(data: Any, step: int | str) -> bool:
    if isinstance(step, int):
        return isinstance(data, (list, tuple)) and step < len(data)
    return isinstance(data, Mapping) and step in data


def _written(path: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
