"""The worker's spans, made afterwards from what was measured. Imported only where traces are on.

Each traced request has three in its trace: **queue**, from publication until its first batch; **batch**, all of its batches;
**reply**, until its result is stored and published. Each forward pass is a trace of its own, because it belongs to all of
its requests: it has a link to each of them, and their `batch` one to it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.tracing import Tracing
from workers.work import Item, RequestWork, TaskWork

_PROPAGATOR = TraceContextTextMapPropagator()
#: Most requests that a forward pass has links to: what OpenTelemetry keeps.
_MOST_LINKS = 128


@dataclass(slots=True)
class _Passes:
    """The forward passes that a request was part of."""

    began_ns: int
    ended_ns: int
    links: list[Any] = field(default_factory=list)


class WorkSpans:
    """Called on the pipeline's threads."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._passes: dict[RequestWork, _Passes] = {}

    def ran(self, model: str, items: Sequence[Item], began_at: float, error: str | None) -> None:
        """A forward pass has ended.

        Args:
            model: Whose.
            items: What was in it.
            began_at: Monotonic time at which the engine was given it.
            error: Why it failed; None where it did not.
        """
        works = list(dict.fromkeys(item.work for item in items if item.work.traceparent))
        if not works:
            return
        began_ns, ended_ns = _unix_ns(began_at), time.time_ns()
        links = [Link(trace.get_current_span(_parent(work)).get_span_context()) for work in works[:_MOST_LINKS]]
        attributes = {
            "millrace.model": model,
            "millrace.items": len(items),
            "millrace.tokens": sum(item.tokens for item in items),
            "millrace.requests": len({item.work for item in items}),
        }
        span = self._tracing.tracer.start_span(
            "forward pass", Context(), SpanKind.INTERNAL, attributes, links, began_ns
        )
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
        span.end(ended_ns)
        for work in works:
            passes = self._passes.setdefault(work, _Passes(began_ns, ended_ns))
            passes.ended_ns = ended_ns
            passes.links.append(Link(span.get_span_context()))

    def answered(self, tasks: Sequence[TaskWork]) -> None:
        """The results of tasks are stored and published."""
        now_ns = time.time_ns()
        for task in tasks:
            for work in task.requests:
                if work.traceparent:
                    self._answered(task, work, now_ns)

    def close(self) -> None:
        """Send what is left."""
        self._tracing.close()

    def _answered(self, task: TaskWork, work: RequestWork, now_ns: int) -> None:
        passes = self._passes.pop(work, None)
        parent = _parent(work)
        published_ns = int((task.task.published_at or task.received_at) * 1e9)
        attributes = {
            "millrace.model": task.task.model,
            "millrace.lane": str(task.lane),
            "millrace.request_id": work.request.request_id,
        }
        begun_ns = passes.began_ns if passes else now_ns
        # Measured by two clocks: a queue that was left before it was entered has no length.
        self._span("queue", parent, (min(published_ns, begun_ns), begun_ns), attributes, kind=SpanKind.CONSUMER)
        if passes is not None:
            sizes = {"millrace.items": len(work.rows), "millrace.tokens": work.tokens}
            self._span("batch", parent, (begun_ns, passes.ended_ns), attributes | sizes, links=passes.links)
        error = work.error.code if work.error is not None else None
        replied_ns = passes.ended_ns if passes else now_ns
        self._span("reply", parent, (replied_ns, now_ns), attributes, kind=SpanKind.PRODUCER, error=error)

    def _span(
        self,
        name: str,
        parent: Context,
        times_ns: tuple[int, int],
        attributes: dict[str, Any],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        error: str | None = None,
    ) -> None:
        span = self._tracing.tracer.start_span(name, parent, kind, attributes, links, times_ns[0])
        if error is not None:
            span.set_status(StatusCode.ERROR, error)
        span.end(times_ns[1])


def _parent(work: RequestWork) -> Context:
    return _PROPAGATOR.extract({"traceparent": work.traceparent}, Context())


def _unix_ns(monotonic: float) -> int:
    return time.time_ns() - int((time.monotonic() - monotonic) * 1e9)
