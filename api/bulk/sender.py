"""Who sends a body: read a little ahead of what is taken, so that it is noticed when they leave while that is worked on."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from api.bodies import idle
from api.unpacking import TURN_BYTES
from shared.errors import MillraceError

#: Bytes that are read ahead. A sender is seen to leave when there is nothing before the end of what has arrived.
_AHEAD_BYTES = 1024 * 1024


class Sender:
    """The sender of one request's body."""

    def __init__(self, receive: Receive, idle_s: float) -> None:
        """Nothing is read yet.

        Args:
            receive: ASGI's, of the request.
            idle_s: How long the sender may be silent, in seconds.
        """
        self._receive = receive
        self._idle_s = idle_s
        self._ahead: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._all_here = False
        self._left = False
        #: The server ends it with the request (it says `http.disconnect` once the answer is out), if it is not done before.
        self._next: asyncio.Future[Message] | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, at most `TURN_BYTES` at a time.

        Raises:
            ClientDisconnect: The sender has left.
            BodyTooSlow: They are there and send nothing.
            MillraceError: They may not send any more.
        """
        while True:
            self._look()
            while not self._ahead and not self._all_here and self._next is not None:
                came, _ = await asyncio.wait({self._next}, timeout=self._idle_s)
                if not came:
                    raise idle(self._idle_s)
                self._look()
            if not self._ahead:
                return
            piece = self._ahead.popleft()
            self._ahead_bytes -= len(piece)
            for start in range(0, len(piece), TURN_BYTES):
                yield piece[start : start + TURN_BYTES]
                await self.turn()

    async def turn(self) -> None:
        """Let others have their turn.

        Raises:
            ClientDisconnect: The sender has left.
        """
        await asyncio.sleep(0)
        self._look()

    async def left(self) -> None:
        """Wait until the sender leaves, or the request ends; what else they send is dropped."""
        while not self._left:
            self._ahead.clear()
            self._ahead_bytes = 0
            try:
                self._look()
            except (ClientDisconnect, MillraceError):
                return
            if self._next is not None:
                await asyncio.wait({self._next})

    def _look(self) -> None:
        """Take what has arrived, and wait for more of it in the background."""
        if self._next is not None and self._next.done():
            message, self._next = self._next.result(), None
            if message["type"] == "http.disconnect":
                self._left = True
            elif not self._all_here:
                body = message.get("body", b"")
                if body:
                    self._ahead.append(body)
                    self._ahead_bytes += len(body)
                self._all_here = not message.get("more_body", False)
        if self._left:
            raise ClientDisconnect
        if self._next is None and self._ahead_bytes < _AHEAD_BYTES:
            self._next = asyncio.ensure_future(self._receive())
