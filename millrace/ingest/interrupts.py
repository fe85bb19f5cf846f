"""Ctrl-C and SIGTERM: they end what waits, but not what is being written."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Raises `KeyboardInterrupt` in the main thread, behind the end of a shielded block. The second one does so at once."""

    def __init__(self) -> None:
        self._count = 0
        self._is_shielded = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """What is done in here is done whole."""
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False
        if self._count:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if not self._is_shielded or self._count > 1:
            raise KeyboardInterrupt
