"""Where the inputs of a request stand in its body: what its sender calls them, for errors about one of them.

A place is a path as one writes it, `documents[3]` or `inputs.sentences[0]`.
"""

from collections.abc import Callable
from typing import Any

from shared.places import QUERY

#: The path of an input in a body, given the number of the job's request that has it and its position there (or `QUERY`).
Place = Callable[[int, int], str]


def listed(field: str, given: Any = ()) -> Place:
    """Inputs that are a field's entries; where it is given as one text or object, the field itself."""
    if isinstance(given, (list, tuple)):
        return lambda _, index: f"{field}[{index}]"
    return lambda _, index: field  # noqa: ARG005 - the form of a `Place`


def ranked(documents: str, query: str = "query") -> Place:
    """A query's field, and the entries of the documents'."""
    return lambda _, index: query if index == QUERY else f"{documents}[{index}]"


def field_of(path: str) -> str:
    """The part of a path that names a field: what comes before the first position."""
    return path.split("[")[0]
