"""TLS in front of a plain server: the packaged Valkey is built without it."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.helpers.certificates import Certificates
from tests.helpers.waiting import wait_until


class _Front:
    """Takes TLS connections and hands on what is in them."""

    def __init__(self, target: int, certificates: Certificates) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        #: Connections that were taken.
        self.connections = 0

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        wait_until(lambda: self.port, what="the TLS front to listen")

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        """Stop listening and break all connections off: to close one would wait for its client."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=1)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, inner_writer}
        await asyncio.gather(_hand_on(reader, inner_writer), _hand_on(inner_reader, writer))
        self._writers -= {writer, inner_writer}


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextmanager
def tls_front(target: int, certificates: Certificates) -> Iterator[_Front]:
    """Serve TLS on a free port until the block ends.

    Args:
        target: Port of the plain server.
        certificates: What it shows.
    """
    front = _Front(target, certificates)
    front.start()
    try:
        yield front
    finally:
        front.stop()
