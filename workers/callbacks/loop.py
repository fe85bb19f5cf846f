"""The event loop of a callback worker: its connections live there, and Celery's threads wait for what runs on it."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from shared.background import stop_if_it_failed
from shared.logging import get_logger

log = get_logger("millrace.callbacks")

ResultT = TypeVar("ResultT")

#: Threads that look up hosts, which may take long for some of them.
_LOOKUPS = 64


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine there, and wait for it here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine run there until the loop ends."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).add_done_callback(partial(stop_if_it_failed, log))

    def stop(self) -> None:
        """End it, and whatever still runs on it."""
        self.call(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _cancel_all() -> None:
    running = asyncio.all_tasks() - {asyncio.current_task()}
    while running:  # more than once: a cancellation can be swallowed on its way (Python 3.11)
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=0.2)
