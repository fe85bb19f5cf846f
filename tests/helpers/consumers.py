"""A consumer that takes messages exactly as a worker does: kombu on its event loop, our transport, keys of its own."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from kombu import Connection, Consumer, Exchange, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.message import Message

from shared import keys

#: How often a waiting consumer looks at the time, in seconds.
_TICK_S = 0.02


class Taker:
    """Takes messages and acknowledges none of them by itself. One at a time in a process: kombu has one event loop."""

    def __init__(self, url: str, worker: str, queues: list[str]) -> None:
        """Connect.

        Args:
            url: The server.
            worker: Name of the worker that it stands for.
            queues: What it consumes, the most important first.
        """
        self.messages: list[Message] = []
        self.connection = Connection(
            url,
            transport="workers.transport:Transport",
            transport_options={
                "queue_order_strategy": "workers.transport:OpenLanes",
                "priority_steps": [0],
                "unacked_key": keys.unacked(worker),
                "unacked_index_key": keys.unacked_index(worker),
                "socket_timeout": 5.0,
                # A pop that nobody answers ends after this: a connection that closes waits for it.
                "polling_interval": 0.1,
            },
        )
        self._hub = Hub()
        set_event_loop(self._hub)
        self._hub.call_repeatedly(_TICK_S, lambda: None)
        self.channel: Any = self.connection.channel()
        self.connection.register_with_event_loop(self._hub)
        self.consumer = Consumer(
            self.channel,
            [Queue(name, Exchange(""), routing_key=name) for name in queues],
            on_message=self.messages.append,
            accept=["msgpack", "json"],
        )
        self.consumer.consume()
        self._loop: Iterator[None] = self._hub.create_loop()

    def take(self, count: int = 1, *, timeout_s: float = 10.0) -> list[Message]:
        """Wait for so many messages more, and return them.

        Raises:
            TimeoutError: They did not come.
        """
        before = len(self.messages)
        if not self._run(lambda: len(self.messages) >= before + count, timeout_s):
            raise TimeoutError(f"{len(self.messages) - before} of {count} messages came within {timeout_s:.0f} s")
        self._settle()
        return self.messages[before:]

    def take_what_there_is(self, *, patience_s: float = 0.3) -> list[Message]:
        """Messages that come within a while."""
        before = len(self.messages)
        self._run(lambda: False, patience_s)
        return self.messages[before:]

    def close(self) -> None:
        """Close the connection, as a worker that stops does."""
        self.connection.close()
        self._end_loop()

    def drop(self) -> None:
        """Let go of a connection that has broken, as Celery does before it opens a new one."""
        self.connection.collect()
        self._end_loop()

    def _run(self, until: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                return False
            next(self._loop)
        return True

    def _settle(self) -> None:
        """Let callbacks run that the last message has left behind."""
        next(self._loop)

    def _end_loop(self) -> None:
        try:
            self._hub.close()
        except BaseException:
            self._hub.close()  # what was left to do has failed; its sockets must go all the same
            raise
        finally:
            set_event_loop(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
