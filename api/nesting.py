"""How deep lists and objects may lie in each other: no deeper than orjson writes what it has read."""

from typing import Any

#: Orjson reads 1,024 and writes 254; what is read may come back in an answer, a level or ten deeper.
DEEPEST = 200


def is_too_deep(raw: bytes, value: Any) -> bool:
    """Whether the JSON in `raw`, which has been read as `value`, is nested more than `DEEPEST` deep."""
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return False
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
        if not level:
            return False
    return True
