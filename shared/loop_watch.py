"""Does an event loop turn? The port of its process is served by threads, which would go on answering if it did not."""

import asyncio
import time

#: Between two turns, in seconds.
_TURN_EVERY_S = 1.0


class LoopWatch:
    """Says when a loop stands still.

    Args:
        wedged_after_s: For how long that means that it will not go on by itself, in seconds.
    """

    def __init__(self, wedged_after_s: float) -> None:
        self._wedged_after_s = wedged_after_s
        self._turned_at = time.monotonic()

    async def turn(self) -> None:
        """Run on the loop until cancelled."""
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(_TURN_EVERY_S)

    def trouble(self) -> str:
        """Why the process should be replaced; empty while its loop turns. Called from any thread."""
        still_s = time.monotonic() - self._turned_at
        return f"its event loop has stood still for {still_s:.0f} s" if still_s > self._wedged_after_s else ""
