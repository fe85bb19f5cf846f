"""The gateway's HTTP server: uvicorn, which leaves politely.

A load balancer learns from `/ready` that a gateway is leaving, and until then sends it more: so it goes on answering.
What has reached it when it stops listening is answered too.
"""

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.connections import Connection
from api.settings import ApiSettings, names
from shared.logging import get_logger

log = get_logger("millrace.gateway")


#: Longest time to take the connections that wait when the server leaves, in seconds; the event loop stands still meanwhile.
_TAKE_S = 0.5
#: For the event loop to make those that it had taken itself known, in seconds.
_SETTLE_S = 0.05


#: Connections that a gateway should be able to have at least.
_FEW_DESCRIPTORS = 4096


def use_all_descriptors() -> None:
    """Let this process have as many connections as the system allows it at most.

    The usual limit of a process is 1,024 descriptors, which it may raise itself; idle connections alone would use them up.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < _FEW_DESCRIPTORS:
        log.warning("few_descriptors", limit=hard, hint="more connections than that are not taken; raise `ulimit -Hn`")


class Server(uvicorn.Server):
    """Serves the gateway until SIGTERM, and some time after it."""

    def __init__(self, app: FastAPI, settings: ApiSettings) -> None:
        """Build it.

        Args:
            app: The gateway; its `state.leaving` is set when the first signal comes.
            settings: Its address, and how long it takes to leave.
        """
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            # Off by default in our hands: uvicorn's own default believes every local process.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=names(settings.trusted_proxies),
            server_header=False,
            loop="uvloop",
            http=Connection,
            ws="none",
            timeout_graceful_shutdown=int(settings.drain_s),
            timeout_keep_alive=75,
            backlog=4096,
        )
        super().__init__(config)
        self._app = app
        self._leave_after_s = settings.leave_after_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on a signal; a second one is obeyed at once."""
        if self._leave_after_s and not self._app.state.leaving:
            self._app.state.leaving = True
            log.info("leaving", seconds=self._leave_after_s)
            timer = threading.Timer(self._leave_after_s, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
        else:
            self._app.state.leaving = True
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what has come, and end.

        Args:
            sockets: Always None: we let uvicorn make its own.
        """
        await self._take_what_waits()
        await super().shutdown(sockets)

    async def _take_what_waits(self) -> None:
        """Take the connections that the kernel has made for us: it resets those that still wait when we stop listening.

        The event loop takes one a turn, and a turn under load takes long: all of them are taken at once here.
        """
        listening = [socket.socket(fileno=os.dup(sock.fileno())) for server in self.servers for sock in server.sockets]
        for server in self.servers:
            server.close()
        taken: list[socket.socket] = []
        for sock in listening:
            sock.listen(0)  # who comes now is not let in, asks again a second later, and is refused then
            taken.extend(_accepted(sock))
            sock.close()
        loop = asyncio.get_running_loop()
        for connection in taken:
            try:
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError:  # it has gone already
                connection.close()
        await asyncio.sleep(_SETTLE_S)

    def _protocol(self) -> asyncio.Protocol:
        """What uvicorn itself gives each connection."""
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """What waits at a socket, until nothing does."""
    ends = time.monotonic() + _TAKE_S
    while time.monotonic() < ends:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        except ConnectionAbortedError:
            continue
        except OSError as err:
            log.warning("connections_left_waiting", error=str(err))
            return
        yield connection
    log.warning("connections_left_waiting", error=f"more came for {_TAKE_S} s")
