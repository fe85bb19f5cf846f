"""The worker's handle on its engine process: start, submit, receive, replace."""

import os
import select
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from shared.logging import get_logger
from workers.engine_protocol import (
    Batch,
    BatchResult,
    EngineFailed,
    EngineOptions,
    EngineReady,
    receive_ready,
    receive_result,
    send_batch,
    send_options,
)

log = get_logger("millrace.engine")


#: After a forward pass OpenMP's threads spin for more, by default for milliseconds in which the result's way out has a core
#: less. Long enough for the pauses between operators: 0.5 ms less for a lone request, the same throughput.
_ENVIRONMENT = {"GOMP_SPINCOUNT": "20000"}


class EngineStartError(Exception):
    """The engine process did not become ready; the message is for the operator."""


class EngineLost(Exception):
    """The engine process died, or was silent for too long; every batch that it had is unanswered."""


class EngineProcess:
    """One engine process at a time."""

    def __init__(self, options: EngineOptions, *, module: str, start_timeout_s: float, batch_timeout_s: float) -> None:
        self._options = options
        self._module = module
        self._start_timeout_s = start_timeout_s
        #: A batch that takes longer, in seconds, means a wedged device.
        self.batch_timeout_s = batch_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Process id, while one runs."""
        return self._process.pid if self._process else None

    def launch(self) -> None:
        """Start the process; it loads its models while the caller does other things."""
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**_ENVIRONMENT, **os.environ},
            )
        self._connection = ours
        send_options(ours, self._options)

    def wait_ready(self) -> EngineReady:
        """Wait until every model has run once.

        Raises:
            EngineStartError: The process failed, died, or took longer than the start timeout.
        """
        connection = self._live()
        try:
            if not connection.poll(self._start_timeout_s):
                raise EngineStartError(f"the models were not loaded within {self._start_timeout_s:.0f} s")
            ready = receive_ready(connection)
        except (EOFError, OSError) as err:
            self.stop()
            raise EngineStartError("the engine process ended while it was loading; its log says why") from err
        if isinstance(ready, EngineFailed):
            self.stop()
            raise EngineStartError(ready.reason)
        return ready

    def submit(self, batch: Batch) -> None:
        """Send a batch.

        Raises:
            EngineLost: The process is gone.
        """
        try:
            send_batch(self._live(), batch)
        except OSError as err:
            raise EngineLost(str(err)) from err

    def wait(self, bell: int, timeout_s: float | None) -> tuple[bool, bool]:
        """Sleep until the file descriptor `bell` or a result can be read.

        Returns:
            Whether the bell rang, and whether a result (or the process's end) is there; neither after the timeout.
        """
        connection = self._live()
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        poll.register(connection.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else max(0, timeout_s * 1000))}
        return bell in ready, connection.fileno() in ready

    def receive(self) -> BatchResult:
        """Read the next result, waiting for it if need be.

        Raises:
            EngineLost: The process died.
        """
        try:
            return receive_result(self._live())
        except (EOFError, OSError) as err:
            raise EngineLost(f"the engine process died ({err or 'end of file'})") from err

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            started = time.monotonic()
            self._process.kill()
            self._process.wait()
            log.debug("engine_stopped", seconds=round(time.monotonic() - started, 2))
            self._process = None

    def _live(self) -> Connection:
        if self._connection is None:
            raise EngineLost("the engine process is not running")
        return self._connection
