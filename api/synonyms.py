"""One thing under several names: clients of different providers call the same option differently, some send two."""

from collections.abc import Mapping
from typing import TypeVar

from shared.errors import ContradictoryFields

T = TypeVar("T")


def agreed(given: Mapping[str, T | None]) -> T | None:
    """The value that a request gives under one or several of these names; None where it gives none.

    Args:
        given: What the request says under each name, in one meaning.

    Raises:
        ContradictoryFields: Two of them contradict each other.
    """
    said: T | None = None
    for value in given.values():
        if said is None:
            said = value
        elif value is not None and value != said:
            names = [name for name, value in given.items() if value is not None]
            listed = " and ".join(f"`{name}`" for name in names)
            raise ContradictoryFields(f"{listed} contradict each other; send one of them", param=names[0])
    return said
