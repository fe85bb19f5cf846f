"""How deep lists and objects may lie in each other: no deeper than orjson writes what it has read."""

from typing import Any

#: Orjson reads 1,024 and writes 254; what is read may come back in an answer, a level or ten deeper.
DEEPEST = 200


def is_too_deep(raw: bytes, value: Any, deepest: int = DEEPEST) -> bool:
    """Whether a value is nested too deep.

    Args:
        raw: The JSON that it was read from, or is a part of: with few brackets in there, it need not be looked at.
        value: What was read.
        deepest: How deep lists and objects may lie in each other.
    """
    if raw.count(b"[") + raw.count(b"{") <= deepest or not isinstance(value, (list, dict)):
        return False
    level = [value]
    for _ in range(deepest):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
        if not level:
            return False
    return True
