"""`python -m bench.observed_gateway`: the gateway, with a clock in its event loop that notices when others have to wait.

The clock is due every few milliseconds. What it is late by is a pause that every other request feels too. Part of it may be
that other processes have the cores: what the event loop's thread waited for one is subtracted from the pause (Linux counts
it, in `schedstat`), and what the process computed between two ticks is told too. `GET /bench/pause` tells the longest of
each since it was last asked.
"""

import asyncio
import os
import time
from collections import Counter

import orjson
from fastapi import Response

from api.__main__ import serve
from api.app import create_app
from api.settings import ApiSettings
from shared.logging import configure_logging
from shared.settings import load_or_exit

_TICK_S = 0.002


class Clock:
    """The longest pauses of an event loop."""

    def __init__(self) -> None:
        self._ticking: asyncio.Task[None] | None = None
        self._longest: Counter[str] = Counter()

    async def read(self) -> Response:
        """The longest pauses since the last call, in ms; the first call starts the clock."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())
        found, self._longest = self._longest, Counter()
        return Response(orjson.dumps({f"{name}_ms": seconds * 1000 for name, seconds in found.items()}))

    async def _tick(self) -> None:
        schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        before = _now(schedstat)
        while True:
            await asyncio.sleep(_TICK_S)
            now = _now(schedstat)
            passed, computed, waited = (one - other for one, other in zip(now, before, strict=True))
            late = passed - _TICK_S
            for name, seconds in (("late", late), ("own", late - waited), ("computed", computed)):
                self._longest[name] = max(self._longest[name], seconds)
            before = now


def _now(schedstat: int) -> tuple[float, float, float]:
    """The time, what the process has computed, and how long this thread has waited for a core, in seconds."""
    waited_ns = os.pread(schedstat, 100, 0).split()[1]
    return time.perf_counter(), time.process_time(), int(waited_ns) / 1e9


def main() -> None:
    """Entry point."""
    settings = load_or_exit(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    app = create_app(settings)
    app.add_api_route("/bench/pause", Clock().read)
    serve(app, settings)


if __name__ == "__main__":
    main()
