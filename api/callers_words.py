"""Errors of workers in the words of who sent the request: its fields, as his dialect calls them and where he wrote them.

To a worker an option has one name, that of a request's field in `shared.jobs`; its sentence has that in backticks.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from api.dialect import Route
from api.places import Place, field_of
from shared.errors import MillraceError

#: What dialects call an option, by what workers call it.
_NAMES: Mapping[str, Sequence[str]] = {
    "dimensions": ("dimensions", "output_dimension", "mrl"),
    "late_chunking": ("late_chunking",),
    "max_tokens": ("truncate_prompt_tokens", "max_tokens"),
    "normalize": ("normalize", "normalized", "use_activation"),
    "prompt_name": ("prompt_name",),
    "truncation_side": ("truncation_side", "truncation_direction", "truncate"),
}
#: Values that say what the worker minds, where another value under one of the names says nothing of it.
_SAID: Mapping[str, Callable[[Any], bool]] = {
    "normalize": lambda value: value is False,
    "truncation_side": lambda value: value in ("left", "Left", "START"),
}
#: Objects in which some dialects have options.
_GROUPS = ("parameters", "options", "config")
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


def in_callers_words(
    error: MillraceError, route: Route, data: Mapping[str, Any], place: Place, number: int
) -> MillraceError:
    """An error with the names that the caller knows; itself where there are none.

    Args:
        error: Of a worker.
        route: The body's.
        data: The body.
        place: Of the job's inputs.
        number: Of the job's request that it is about.
    """
    if error.index is not None:
        path = place(number, error.index)
        return error.named(f"`{path}`", field_of(path))
    if error.param is None or error.param not in _NAMES:
        return error
    written = next(_written(error.param, route, data, place(number, 0)), None)
    # The outermost field, as for bodies that do not fit their model.
    return error if written is None else error.renamed(written, field_of(written).split(".")[0])


def _written(option: str, route: Route, data: Mapping[str, Any], path: str) -> Iterator[str]:
    """Where a body says an option, nearest to one of its inputs first.

    Args:
        option: A key of `_NAMES`.
        route: The body's.
        data: The body.
        path: Of the input.
    """
    said = _SAID.get(option, lambda value: value is not None)
    parents = path.split(".")[:-1]
    for depth in range(len(parents), -1, -1):
        holder = _at(data, ".".join(parents[:depth]))
        for group in ((), *((name,) for name in _GROUPS)):
            options = holder.get(group[0]) if group and isinstance(holder, Mapping) else holder
            if isinstance(options, Mapping):
                for name in _NAMES[option]:
                    is_read = depth > 0 or bool(group) or name in route.body.model_fields
                    if is_read and said(options.get(name)):
                        yield ".".join([*parents[:depth], *group, name])


def _at(data: Any, path: str) -> Any:
    """What stands at a path of a body; None where nothing does."""
    try:
        for name, position in _STEP.findall(path):
            data = data[name] if name else data[int(position)]
    except (LookupError, TypeError):
        return None
    return data
