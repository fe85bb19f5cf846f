"""Clients that leave before they are answered: what waits for them is given up, and never reaches a forward pass."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

#: Status of an answer that nobody reads any more; nginx's number for it.
CLIENT_GONE = 499
#: What such a request is counted as.
LEFT = "client_left"
#: From when on a client is watched, in seconds: most are answered before, and cost a timer only.
_WATCH_AFTER_S = 0.05


class ClientLeft(Exception):
    """The client closed its connection before the answer was there."""


@contextmanager
def given_up_when_left(receive: Receive) -> Iterator[None]:
    """Give the block up when the client leaves.

    Args:
        receive: Of the request, whose body has been read.

    Raises:
        ClientLeft: It has.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    watch: asyncio.Task[None] | None = None
    left = False

    async def wait_for_departure() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        if task is not None:
            task.cancel()

    def begin() -> None:
        nonlocal watch
        watch = loop.create_task(wait_for_departure())

    timer = loop.call_later(_WATCH_AFTER_S, begin)
    try:
        yield
    except asyncio.CancelledError:
        if not left or task is None or task.uncancel() > 0:
            raise  # somebody else wants it cancelled: the process is stopping
        raise ClientLeft from None
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()
