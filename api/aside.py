"""Work that takes long, beside the event loop: other requests have their turns meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

ResultT = TypeVar("ResultT")
P = ParamSpec("P")

#: One thread: Python runs one at a time, so several would be no faster, and the event loop would have to wait for its turn
#: behind all of them (5 ms each) instead of one.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="aside")


async def aside(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """What a function returns or raises, run in a thread. None of its steps in C may take longer than others can wait."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: context.run(function, *args, **kwargs))
