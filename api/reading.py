"""A request's body, read within its limits of size and time, and in its turn where it is large."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request

from api.bodies import JsonBody, read_body
from api.room import Guest
from api.settings import ApiSettings
from shared.errors import BodyTooSlow

#: While others wait for room, a large body that has some must come at this speed: so many bytes in so many seconds.
_LEAST_BYTES, _LEAST_S = 1 << 20, 5.0


async def read(
    request: Request, headers: Mapping[bytes, bytes], guest: Guest, settings: ApiSettings, patience_s: float
) -> JsonBody:
    """Read it.

    Args:
        request: Whose body it is.
        headers: Of the request, names in lower case.
        guest: Takes room for a large one.
        settings: The limits.
        patience_s: How long it may wait for room, in seconds.

    Raises:
        BodyTooSlow: It did not come in time, or too slowly while others wait.
        Overloaded: There was no room.
        MillraceError: See `read_body`.
    """
    arrived = 0
    loop = asyncio.get_running_loop()
    watch: asyncio.TimerHandle | None = None
    reason = (
        f"the body did not arrive within {settings.body_timeout_s:g} s; send less at a time, or raise "
        "MILLRACE_BODY_TIMEOUT_S"
    )

    async def counted() -> AsyncIterator[bytes]:
        nonlocal arrived
        async for chunk in request.stream():
            arrived += len(chunk)
            yield chunk

    def look(before: int) -> None:
        nonlocal watch, reason
        if arrived - before < _LEAST_BYTES and guest.holds_up_others:
            reason = (
                f"others wait for the room of this body, of which {arrived - before} bytes came in {_LEAST_S:.0f} s"
            )
            timeout.reschedule(loop.time())
        else:
            watch = loop.call_later(_LEAST_S, look, arrived)

    async def make_room(size: int) -> None:
        nonlocal watch
        due_at = timeout.when() or 0
        timeout.reschedule(None)  # its sender is kept waiting meanwhile
        await guest.bring_body(size, patience_s)
        timeout.reschedule(due_at + guest.waited_s)
        watch = loop.call_later(_LEAST_S, look, arrived)

    try:
        async with asyncio.timeout(settings.body_timeout_s) as timeout:
            try:
                body = await read_body(
                    counted(),
                    headers,
                    limit_bytes=settings.body_limit_bytes,
                    most_inputs=4 * settings.max_client_batch_size,
                    make_room=make_room,
                )
            finally:
                if watch is not None:
                    watch.cancel()
    except TimeoutError:
        raise BodyTooSlow(reason) from None
    guest.body_is(body.size)
    return body
