"""Who leaves before an answer is there: clients, for whom nothing is done any more, and the gateway itself."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from shared.errors import Unavailable

#: Status of an answer that nobody reads any more; nginx's number for it.
CLIENT_GONE = 499
#: What such a request is counted as.
LEFT = "client_left"
#: When those whom this gateway leaves should ask again, in seconds: its successor is there by then.
_AGAIN_AFTER_S = 5.0
#: From when on a client is watched, in seconds: most are answered before, and cost a timer only.
_WATCH_AFTER_S = 0.05


class ClientLeft(Exception):
    """The client closed its connection before the answer was there."""


@contextmanager
def refused_when_leaving() -> Iterator[None]:
    """Refuse what is not done when the gateway's time to leave is over: the server then cancels whatever still runs.

    Raises:
        Unavailable: It has been.
    """
    try:
        yield
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        raise Unavailable(
            "the gateway that had this request is stopping and can wait for the answer no longer; send it again",
            retry_after_s=_AGAIN_AFTER_S,
        ) from None


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
