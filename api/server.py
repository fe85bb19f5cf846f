"""The gateway's HTTP server: uvicorn, which leaves politely.

A load balancer learns from `/ready` that a gateway is leaving, and until then sends it more: so it goes on answering.
"""

import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.connections import Connection
from api.settings import ApiSettings, names
from shared.logging import get_logger

log = get_logger("millrace.gateway")


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
