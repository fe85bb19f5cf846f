"""Requests that go on for long after they have been let in: what becomes of them when their key is revoked."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Message, Receive

from shared.errors import MillraceError


@asynccontextmanager
async def while_allowed(receive: Receive, refusal: Coroutine[Any, Any, MillraceError]) -> AsyncIterator[Receive]:
    """What such a request reads its body with, and sees its client leave.

    Once it is refused, whoever reads the body gets the refusal, which is then the answer, or the last line of one that has
    begun; to whoever only answers it is as if the client had left.

    Args:
        receive: ASGI's.
        refusal: Returns when the request may not go on, with the reason.
    """
    refused = asyncio.ensure_future(refusal)
    is_all_here = False

    async def receive_if_allowed() -> Message:
        nonlocal is_all_here
        following = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({following, refused}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not following.done():
                following.cancel()
        if not refused.done():
            message: Message = following.result()
            is_all_here = not message.get("more_body", False)
            return message
        if is_all_here:
            return {"type": "http.disconnect"}
        raise refused.result()

    try:
        yield receive_if_allowed
    finally:
        refused.cancel()
