"""A way to a server on which connections go dead without being closed, as in networks that lose packets and say nothing."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.helpers.waiting import wait_until


class Way:
    """Hands on what comes, until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        #: Connections of an older generation have been forgotten.
        self._generation = 0
        self.port = 0

    def url(self) -> str:
        """The address of a Redis server behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Let nothing through, on old connections and on new ones, until `thaw`; what was sent meanwhile comes then."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Let everything through again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def forget(self) -> None:
        """Swallow what is sent on the connections that there are, for ever; new ones work."""

        def age() -> None:
            self._generation += 1

        self._loop.call_soon_threadsafe(age)

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        wait_until(lambda: self.port, what="the way to be open")

    def stop(self) -> None:
        """Break everything off."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        self._flowing.set()
        for writer in list(self._writers):
            writer.transport.abort()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._generation
        await self._flowing.wait()
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # no server: whoever came is sent away, as the server's own port would
            writer.transport.abort()
            return
        self._writers |= {writer, inner_writer}
        await asyncio.gather(
            self._hand_on(reader, inner_writer, generation), self._hand_on(inner_reader, writer, generation)
        )
        self._writers -= {writer, inner_writer}

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if generation == self._generation:
                    writer.write(data)
                    await writer.drain()
        await self._flowing.wait()
        if generation == self._generation:  # the end of a forgotten connection is not told either
            writer.close()


@contextmanager
def half_open_way(target: int) -> Iterator[Way]:
    """A way to the server on port `target`, until the block ends."""
    way = Way(target)
    way.start()
    try:
        yield way
    finally:
        way.stop()
