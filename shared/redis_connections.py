"""The connections to Redis that a process has, and the end of those that may be dead.

A connection whose other end is gone without a word (a forgotten NAT entry, a machine that lost its power) answers nothing,
and it is not dead alone: those that were made before it went the same way. Each would cost whoever uses it next a timeout of
seconds, and a consumer uses four, one after the other. So who asks Redis all the time (a heartbeat, the look after workers)
watches for silence, and when a new connection answers, all older ones are ended: whoever waits for them is told at once.
Whoever else meets with silence says so, since the watcher's own connection may be one that lives.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

from redis.asyncio.connection import AbstractConnection as AioConnection
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from shared.logging import get_logger

log = get_logger("millrace.redis")

_lock = threading.Lock()
#: When somebody last met with silence that no watcher has answered for yet, by the monotonic clock; empty where nobody has.
_met: list[float] = []


@dataclass(frozen=True, slots=True)
class _Made:
    """How a connection came to be."""

    #: By the monotonic clock.
    at: float
    #: Where it lives, if it is one for asyncio.
    loop: asyncio.AbstractEventLoop | None = None


_made: WeakKeyDictionary[AbstractConnection | AioConnection, _Made] = WeakKeyDictionary()


def _note(connection: AbstractConnection) -> None:
    """Set a connection up that has just been made, and remember it."""
    _remember(connection, _Made(time.monotonic()))
    connection.on_connect()  # type: ignore[no-untyped-call]


async def _note_aio(connection: AioConnection) -> None:
    """The same for asyncio."""
    _remember(connection, _Made(time.monotonic(), asyncio.get_running_loop()))
    await connection.on_connect()


_TIMEOUTS = (RedisTimeoutError, TimeoutError)
#: With the notices of maintenance that Redis Enterprise sends, redis-py hands out connections that have ended.
_PLAIN: Mapping[str, Any] = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
#: Options of connections that may be ended.
NOTED: Mapping[str, Any] = {**_PLAIN, "redis_connect_func": _note}
#: The same for asyncio.
NOTED_AIO: Mapping[str, Any] = {**_PLAIN, "redis_connect_func": _note_aio}


_send = AioConnection.send_packed_command


async def _send_or_lose(connection: AioConnection, command: Any, check_health: bool = True) -> None:
    """Send, and say of a connection that has just ended that it has.

    uvloop raises a RuntimeError where asyncio has an OSError, and redis-py hands it on: nobody takes it for a lost
    connection, and a loop that is there for good ends with it.
    """
    try:
        await _send(connection, command, check_health)
    except RuntimeError as err:
        await connection.disconnect(nowait=True)
        raise RedisConnectionError(f"connection lost while writing: {err}") from err


# On the class: which one of them a client has depends on its address.
AioConnection.send_packed_command = _send_or_lose  # type: ignore[method-assign, assignment]


def met_with_silence(error: BaseException | None = None) -> None:
    """A connection has not answered in time: it and all that are as old are ended when a watcher is answered.

    Args:
        error: What came instead; only timeouts count. None where the caller itself has waited long enough.
    """
    if error is None or isinstance(error, _TIMEOUTS):
        with _lock:
            _met[:] = [time.monotonic()]


class SilenceWatch:
    """What somebody who asks Redis all the time hears of it."""

    def __init__(self) -> None:
        self._silent_since: float | None = None

    def failed(self, error: Exception, asked_at: float) -> None:
        """Nothing came back.

        Args:
            error: Instead of it. A connection that was refused or ended is no silence: the others have been told too.
            asked_at: Monotonic time of the question.
        """
        if isinstance(error, _TIMEOUTS) and self._silent_since is None:
            self._silent_since = asked_at

    def answered(self) -> None:
        """Redis has answered: what was connected before it fell silent is ended."""
        with _lock:
            since = [*_met, *([] if self._silent_since is None else [self._silent_since])]
            _met.clear()
        self._silent_since = None
        if since:
            _end_made_before(max(since))


def _remember(connection: AbstractConnection | AioConnection, made: _Made) -> None:
    with _lock:
        _made[connection] = made


def _end_made_before(moment: float) -> None:
    with _lock:
        old = [(connection, made.loop) for connection, made in _made.items() if made.at < moment]
        for connection, _ in old:
            del _made[connection]
    log.warning("silent_connections_ended", connections=len(old))
    for connection, loop in old:
        if isinstance(connection, AioConnection):
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(_end_aio, connection)
        elif (its_own := connection._sock) is not None:  # once: another thread may just be giving it up
            # Neither closed nor forgotten, since another thread may be reading from it: it reads the end.
            with suppress(OSError):
                socket.socket.shutdown(cast("socket.socket", its_own), socket.SHUT_RDWR)


def _end_aio(connection: AioConnection) -> None:
    """Have its reader read the end. Where a transport is aborted, uvloop raises a RuntimeError for whoever writes next."""
    if connection._writer is not None:
        its_own = connection._writer.get_extra_info("socket")
        with suppress(OSError), socket.socket(fileno=os.dup(its_own.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
