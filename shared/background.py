"""What runs in the background of a process for as long as it lives."""

import asyncio
import concurrent.futures
import os
import signal
from typing import Any


def stop_if_it_failed(log: Any, run: asyncio.Future[None] | concurrent.futures.Future[None]) -> None:
    """A process that lacks one of its loops looks alive and is not: let its supervisor start another.

    Args:
        log: The process's logger.
        run: A loop that is over.
    """
    if not run.cancelled() and (error := run.exception()) is not None:
        log.error("background_failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
