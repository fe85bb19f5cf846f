"""How many inputs a request has, where possible before any of them is read.

Of a body of 256 KiB, small enough to be understood at once, the entries can be so many that this takes a second: each
instance of Vertex's is a body of its own.
"""

from collections.abc import Mapping
from typing import Any

from api.dialect import Route
from shared.errors import BatchTooLarge

#: Entries that are read at once, in a few milliseconds.
MOST_AT_ONCE = 256


def too_many(items: int, most: int, field: str) -> BatchTooLarge:
    """The error of a request that has too many inputs.

    Args:
        items: How many it has.
        most: How many it may have.
        field: Where it has them.
    """
    return BatchTooLarge(
        f"`{field}`: batch of {items} inputs exceeds {most}; split it or raise MILLRACE_MAX_CLIENT_BATCH_SIZE",
        param=field,
    )


def entries(route: Route, data: Mapping[str, Any], most: int) -> int:
    """How many entries the longest of a route's `inputs` has in a body that has not been validated.

    Args:
        route: The body's.
        data: The body.
        most: Inputs that a request may have.

    Raises:
        BatchTooLarge: They are inputs, and more.
    """
    longest = 0
    for field in route.inputs:
        given = data.get(field)
        if isinstance(given, list):
            if len(given) > most and not route.repeats:
                raise too_many(len(given), most, field)
            longest = max(longest, len(given))
    return longest
