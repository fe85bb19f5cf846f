"""Work that takes long, beside the event loop: others have their turns meanwhile, and searches do not wait for bulk work."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from shared.queues import Lane

ResultT = TypeVar("ResultT")
P = ParamSpec("P")

#: One thread for each lane: Python runs one at a time, so several would be no faster, and the event loop would have to wait
#: for its turn behind all of them (5 ms each) instead of one or two.
_THREADS = {lane: ThreadPoolExecutor(1, thread_name_prefix=f"aside-{lane}") for lane in Lane}


async def aside(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """What a function returns or raises, run in a thread. None of its steps in C may take longer than others can wait."""
    return await aside_in(Lane.INTERACTIVE, function, *args, **kwargs)


async def aside_in(lane: Lane, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """The same, behind others of its lane only."""
    context = copy_context()
    thread = _THREADS[lane]
    return await asyncio.get_running_loop().run_in_executor(thread, lambda: context.run(function, *args, **kwargs))
