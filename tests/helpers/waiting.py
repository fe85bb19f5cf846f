"""Waiting for a condition with a deadline, instead of for a time."""

import time
from collections.abc import Callable

#: Pause between two looks, in seconds.
_PAUSE_S = 0.01


def wait_until(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "the condition") -> None:
    """Return as soon as `condition()` is true.

    Raises:
        TimeoutError: It was not within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(_PAUSE_S)
