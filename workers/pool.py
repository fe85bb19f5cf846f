"""BatchPool: Celery's worker pool, made of a micro-batching pipeline.

Celery has already decoded the message, checked revocation and expiry, and sent task-received. The pool hands the task to
the pipeline and, once its result is stored, runs Celery's own callbacks on the consumer's thread, so that events,
acknowledgement bookkeeping and `celery inspect` work as with any pool.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool, apply_target
from celery.worker.request import Request

from shared.jobs import Task
from shared.logging import get_logger
from shared.queues import Operation, task_name
from workers.transport import FLOW
from workers.work import TaskWork

log = get_logger("millrace.pool")

#: How late Celery may learn that a task has started, in seconds.
_STARTED_DELAY_S = 1.0

_BATCHED = frozenset(task_name(operation) for operation in Operation)


@dataclass(slots=True)
class _Held:
    request: Request
    accepted_at: float


class BatchPool(BasePool):
    """The pool. `app.runtime` (a `workers.runtime.Runtime`) must be ready before the worker starts."""

    def on_start(self) -> None:
        """Start consuming into the pipeline."""
        self._runtime = self.app.runtime
        self._hub: Any = None
        self._held: dict[str, _Held] = {}
        self._callbacks: deque[Callable[[], None]] = deque()
        self._side = ThreadPoolExecutor(1, thread_name_prefix="side")
        self._pipeline = self._runtime.start(
            on_started=self._on_started,
            on_advanced=self._on_advanced,
            on_finished=self._on_finished,
            on_flow=self._on_flow,
        )
        self._suspects = self._runtime.suspects(self._pipeline)
        self._suspects.start()

    def register_with_event_loop(self, loop: Any) -> None:
        """Remember the consumer's loop: Celery's callbacks must run on its thread."""
        self._hub = loop
        loop.call_repeatedly(_STARTED_DELAY_S, self._run_callbacks)

    def on_apply(
        self,
        target: Any,
        args: Any,
        kwargs: Any,
        *,
        callback: Any,
        accept_callback: Any = None,
        error_callback: Any = None,
        **_: Any,
    ) -> None:
        """Take a due task; called on the consumer's thread."""
        request: Request = callback.__self__
        if request.name not in _BATCHED:
            self._side.submit(apply_target, target, args, kwargs, callback, accept_callback)
            return
        if FLOW.restore_on_close:
            return  # stopping: it stays unacknowledged, and goes back to its queue when the channel closes
        try:
            task = Task.from_wire(request.kwargs)
        except Exception:
            log.exception("task_unreadable", task_id=request.id)
            error_callback(ExceptionInfo())
            return
        self._held[request.id] = _Held(request, monotonic())
        work = TaskWork.of(request.id, request.message.delivery_tag, task)
        estimated_tokens = task.estimated_tokens()
        if request.message.is_suspect and task.requests:
            self._pipeline.keep(work, estimated_tokens)
            self._suspects.add(work, request.message.suspected)
        else:
            self._pipeline.accept(work, estimated_tokens)

    def on_close(self) -> None:
        """Finish what was accepted, within the drain time; the rest goes back to its queue."""
        FLOW.restore_on_close = True
        self._runtime.draining = True
        drain_s = self._runtime.settings.drain_s
        if not self._pipeline.drain(drain_s):
            log.warning("drain_incomplete", tasks_returned=len(self._held), seconds=drain_s)
        self._run_callbacks()
        self._suspects.stop()
        self._pipeline.stop()

    def on_stop(self) -> None:
        """End what is left."""
        self._side.shutdown(wait=False)

    on_terminate = on_stop

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return {**info, "held-tasks": len(self._held), "closed-queues": sorted(FLOW.closed)}

    # Called on the pipeline's threads.

    def _on_started(self, work: TaskWork) -> None:
        held = self._held.get(work.task_id)
        if held is not None:
            started_at = monotonic()
            # Without waking the loop: it would take a core from the forward pass that is just beginning.
            self._callbacks.append(lambda: held.request.on_accepted(self._runtime.engine.pid, started_at))

    def _on_advanced(self, tasks: Sequence[TaskWork]) -> None:
        self._suspects.delivered(tasks)

    def _on_finished(self, tasks: Sequence[TaskWork]) -> None:
        for work in tasks:
            FLOW.settled.add(work.delivery_tag)
            held = self._held.pop(work.task_id, None)
            if held is not None:
                self._on_loop(partial(self._succeed, held, work))
        self._suspects.delivered(tasks)

    def _on_flow(self, closed: frozenset[str]) -> None:
        FLOW.closed = closed
        self._on_loop(lambda: None)  # wakes the loop, which then polls the lanes that are open now

    def _on_loop(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        if self._hub is not None:
            self._hub.call_soon(self._run_callbacks)

    # Called on the consumer's thread.

    def _run_callbacks(self) -> None:
        while self._callbacks:
            self._callbacks.popleft()()

    def _succeed(self, held: _Held, work: TaskWork) -> None:
        held.request.on_success((False, work.summary(), monotonic() - held.accepted_at))
