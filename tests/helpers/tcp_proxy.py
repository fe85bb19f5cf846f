"""A TCP proxy between the parts and a server on this machine, whose connections a test cuts, silences or forgets."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from shared import keys
from tests.helpers.valkey import free_port

_CHUNK_BYTES = 1 << 16
_LEASES = keys.LEASES.encode()
#: Time for the proxy's own thread to do what it is told, in seconds.
_PATIENCE_S = 10.0


class _Link:
    """One client's connection and the one to the server that was made for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        #: Whether what is sent goes nowhere, in either direction and for ever.
        self.is_forgotten = False
        #: Whether its client has asked for the leases: a heartbeat, or the look after workers.
        self.is_watchers = False

    def reset(self) -> None:
        """End both connections as a broken line does."""
        for end in self.ends:
            end.transport.abort()


class TcpProxy:
    """Runs in a thread of its own, on a free port that stays the same."""

    def __init__(self, server_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """Describe a proxy; nothing runs yet.

        Args:
            server_port: Where the server listens, on this machine.
            tls: What clients are served with; the server itself speaks plainly.
        """
        self.port = free_port()
        self._server_port = server_port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._visits: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._await(self._listen())

    def stop(self) -> None:
        """End all connections and the thread."""
        self._await(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def cut(self) -> None:
        """Reset all connections and refuse new ones until `mend`."""
        self._await(self._cut())

    def silence(self) -> None:
        """Keep all connections and take new ones, but pass nothing on until `mend`; what was sent meanwhile goes on then."""
        self._call(self._flowing.clear)

    def forget(self, *, spare_watchers: bool = False) -> None:
        """Make the present connections half-open: they stay, and nothing ever comes through. New ones are not affected.

        Args:
            spare_watchers: Leave those that ask for leases as they are.
        """

        def forget_all() -> None:
            for link in self._links:
                link.is_forgotten = not (spare_watchers and link.is_watchers)

        self._call(forget_all)

    def encrypt(self, tls: ssl.SSLContext) -> None:
        """Serve new connections with it; the present ones stay as they are."""
        self._await(self._encrypt(tls))

    def mend(self) -> None:
        """End a cut or a silence."""
        self._await(self._mend())

    def _await(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE_S)

    def _call(self, function: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            function()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(_PATIENCE_S)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._visit, "127.0.0.1", self.port, limit=_CHUNK_BYTES, ssl=self._tls
        )

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for link in self._links:
            link.reset()

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        if self._listener is not None:
            self._listener.close()
        self._tls = tls
        await self._listen()

    async def _mend(self) -> None:
        self._flowing.set()
        if self._listener is None:
            await self._listen()

    async def _shut(self) -> None:
        self._flowing.set()
        await self._cut()
        # They end with their connections.
        await asyncio.gather(*self._visits)

    async def _visit(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a visit runs in a task")
        self._visits.add(task)
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._server_port, limit=_CHUNK_BYTES)
        except OSError:  # the server is down, and to the client it looks like that
            client.transport.abort()
            self._visits.discard(task)
            return
        link = _Link(client, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(link, client_reader, server))
                both.create_task(self._pass(link, server_reader, client))
        finally:
            link.reset()
            self._links.discard(link)
            self._visits.discard(task)

    async def _pass(self, link: _Link, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on what comes from one end, and its end."""
        with suppress(ConnectionError):  # one end was reset, which the other is told below
            while data := await source.read(_CHUNK_BYTES):
                link.is_watchers = link.is_watchers or _LEASES in data
                await self._flowing.wait()
                if not link.is_forgotten:
                    target.write(data)
                    await target.drain()
        await self._flowing.wait()
        if not link.is_forgotten:
            target.close()


@contextmanager
def running_proxy(server_port: int, *, tls: ssl.SSLContext | None = None) -> Iterator[TcpProxy]:
    """A proxy until the block ends; the arguments are `TcpProxy`'s."""
    proxy = TcpProxy(server_port, tls=tls)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
