"""Celery's consumer, with its events sent in groups, and its requests, which the pipeline tells when they are late."""

from typing import Any

from celery.worker.consumer import Consumer as StockConsumer
from celery.worker.request import Request as StockRequest

#: How long task events may wait for company, in seconds.
_EVENTS_WAIT_S = 0.2


class Consumer(StockConsumer):
    """Sends task events some times a second instead of at once.

    Stock Celery publishes each task's events as they happen: three blocking round trips a task, on the cores that the
    forward pass needs at that very moment. Celery groups what it has buffered into one message, so waiting a little makes
    events nearly free, and Flower is at most `_EVENTS_WAIT_S` behind.
    """

    _flush_scheduled = False

    def on_send_event_buffered(self) -> None:
        """Called for each buffered event."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.timer.call_after(_EVENTS_WAIT_S, self._flush_waiting_events)

    def _flush_waiting_events(self) -> None:
        self._flush_scheduled = False
        self._flush_events()

    def on_close(self) -> Any:
        """The connection is gone, and with it its timers."""
        self._flush_scheduled = False
        return super().on_close()


class Request(StockRequest):
    """A message of which Celery does not say that it has expired; the pipeline does, with the answers of all others.

    Stock Celery writes that answer itself, by two commands of the result backend that its consumer waits for. Nothing is
    taken from any queue meanwhile, and with a dead connection that is five seconds.
    """

    def maybe_expire(self) -> bool:
        """Whether it is over before it has begun."""
        return False
