"""Celery's thread pool, stopped within the drain time."""

import time

from celery.concurrency.thread import TaskPool

from workers.transport import FLOW


class CallbackPool(TaskPool):
    """Threads that mostly wait for receivers."""

    def on_close(self) -> None:
        """What has not begun goes back to its queue when the channel closes."""
        FLOW.restore_on_close = True

    def on_stop(self) -> None:
        """Let what has begun end within the drain time; what has not is sent again when its lease ends."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + self.app.drain_s
        for thread in list(self.executor._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    on_terminate = on_stop
