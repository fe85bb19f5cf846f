"""The worker's pipeline, off the consumer's thread: tokenise → forward → store and acknowledge.

One thread tokenises what arrives while the engine process runs the batch before, and whenever the engine is free gives it
everything that waits, up to the token budget: there is no wait window. At idle a request runs at once; under load batches
form by themselves. A second thread stores the results, so that a slow Redis does not keep the engine waiting.
"""

import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from shared import jobs
from shared.dead_letters import DeadLetter, inputs_of
from shared.errors import DeadlineExceeded, InferenceFailed, MillraceError, ModelNotFound, OutOfMemory
from shared.jobs import EmbedRequest
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.places import called
from shared.queues import Lane, queue_name
from shared.results import Reply
from workers.delivery import Advanced, Delivery, Finished
from workers.engine_process import EngineLost, EngineProcess, EngineStartError
from workers.engine_protocol import Batch, BatchResult
from workers.memory import show
from workers.sequences import Sequences
from workers.served_model import ServedModel, first_place
from workers.work import Item, RequestWork, TaskWork

if TYPE_CHECKING:  # imported where traces are on, and nowhere else
    from workers.tracing import WorkSpans

log = get_logger("millrace.pipeline")

#: Pauses between attempts to start a lost engine again, in seconds.
_RESTART_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)
#: An input in whose company the engine died this often, the last time alone, is given up.
_FATAL_FAILURES = 2
#: Most inputs of a lost batch that are run again one by one: each costs little, and each further loss of the engine seconds.
#: Of more, so many are run together first.
_ALONE = 32
#: A batch that takes so many times as long as its tokens should has hung. Other programs make one slower, but not so much.
_SLOWNESS = 50
#: What is suspected gets this much of the least patience: those in its company have waited once already.
_SUSPECTS_PATIENCE = 0.5


@dataclass(slots=True, eq=False)
class _Planned:
    model: ServedModel
    items: list[Item]
    submitted_at: float = 0.0


@dataclass(slots=True)
class _Advanced:
    """A task on the way out of which only some requests are done."""

    task: TaskWork
    done: list[int]


class Pipeline:
    """Tasks in, results delivered."""

    def __init__(
        self,
        engine: EngineProcess,
        models: Sequence[ServedModel],
        delivery: Delivery,
        metrics: Metrics,
        spans: "WorkSpans | None" = None,
        *,
        batches_in_flight: int,
        parallel: bool,
        patience_s: float,
        on_started: Callable[[TaskWork], None],
        on_advanced: Callable[[Sequence[TaskWork]], None],
        on_finished: Callable[[Sequence[TaskWork]], None],
        on_flow: Callable[[frozenset[str]], None],
    ) -> None:
        """Build the pipeline.

        Args:
            engine: A process that is ready.
            models: Its models, in its order.
            delivery: Where results go.
            metrics: The worker's metrics.
            spans: Told of forward passes and answers where traces are on.
            batches_in_flight: Batches that the engine is given at a time.
            parallel: Whether it runs them at the same time, so that work should be shared out among them.
            patience_s: Least time that a batch gets, in seconds.
            on_started: Called when a task's first item enters a batch.
            on_advanced: Called with tasks of which some results are stored, and more are to come.
            on_finished: Called with tasks whose results are stored and acknowledged.
            on_flow: Called with the closed queues whenever they change.
        """
        self._engine = engine
        self._models = models
        self._by_name = {model.card.name: model for model in models}
        self._delivery = delivery
        self._metrics = metrics
        self._spans = spans
        self._depth = batches_in_flight
        self._patience_s = patience_s
        self._parallel = batches_in_flight if parallel else 1
        metrics.gauge("millrace_parallel_batches").set(self._parallel)
        self._on_started, self._on_advanced = on_started, on_advanced
        self._on_finished, self._on_flow = on_finished, on_flow
        #: Requests of a task, and the estimate of their tokens.
        self._inbox: deque[tuple[TaskWork, Sequence[RequestWork], int]] = deque()
        self._outbox: queue.SimpleQueue[TaskWork | _Advanced | None] = queue.SimpleQueue()
        self._pixels = ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="pixels")
        #: Readable while the inference thread has been called.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        #: Groups to run again, each on its own: the parts of a batch that failed.
        self._again: deque[_Planned] = deque()
        self._in_flight: dict[int, _Planned] = {}
        self._batch_numbers = count()
        self._held: Counter[tuple[str, Lane]] = Counter()
        #: Queues that are not taken from now, since enough of theirs is held.
        self.closed: frozenset[str] = frozenset()
        self._flow_lock = threading.Lock()
        #: Tasks accepted and not yet delivered.
        self.unfinished = 0
        #: Changes whenever a task is taken, a batch has been computed or a result is delivered.
        self.moves = 0
        self._delivered = threading.Condition()
        self.engine_ready = True
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("inference", self._infer), ("delivery", self._deliver))
        ]

    def start(self) -> None:
        """Start the threads."""
        self._metrics.gauge("millrace_engine_ready").set_function(lambda: float(self.engine_ready))
        # There from the beginning, so that the first one counts as a rise.
        self._metrics.counter("millrace_engine_restarts_total", reason="lost")
        for model in self._models:
            budget = self._metrics.gauge("millrace_max_batch_tokens", model=model.card.name)
            budget.set_function(partial(getattr, model.lanes, "max_batch_tokens"))
            for lane in Lane:
                gauge = self._metrics.gauge("millrace_held_tokens", model=model.card.name, lane=str(lane))
                gauge.set_function(partial(self._held.__getitem__, (model.card.name, lane)))
        for thread in self._threads:
            thread.start()

    @property
    def is_computing(self) -> bool:
        """Whether the engine has a batch."""
        return bool(self._in_flight)

    def accept(self, task: TaskWork, estimated_tokens: int) -> None:
        """Take a task; never blocks. The estimate counts against its lane until the tokens are known."""
        self.keep(task, estimated_tokens)
        self._begin(task, task.requests, estimated_tokens)

    def keep(self, task: TaskWork, estimated_tokens: int) -> None:
        """Count a task as held and unfinished; `begin_one` must follow for each of its requests, sooner or later."""
        with self._delivered:
            self.unfinished += 1
            self.moves += 1
        self._hold(task.task.model, task.lane, estimated_tokens)

    def begin_one(self, task: TaskWork, position: int) -> None:
        """Begin with a request of a task that is kept; never blocks. It is delivered alone, and before the rest."""
        task.is_in_turn = task.is_troubled = True
        work = task.requests[position]
        self._begin(task, [work], jobs.estimated_tokens(work.request.characters, work.request.items))

    def _begin(self, task: TaskWork, works: Sequence[RequestWork], estimated_tokens: int) -> None:
        if any(_has_images(work) for work in works):
            self._pixels.submit(self._read_images, task, works, estimated_tokens)
        else:
            self._arrive(task, works, estimated_tokens)

    def _arrive(self, task: TaskWork, works: Sequence[RequestWork], estimated_tokens: int) -> None:
        self._inbox.append((task, works, estimated_tokens))
        os.eventfd_write(self._bell, 1)

    def _read_images(self, task: TaskWork, works: Sequence[RequestWork], estimated_tokens: int) -> None:
        """On a thread of its own; the requests arrive when their pixels are there."""
        model = self._by_name.get(task.task.model)
        for work in works:
            if model is None or work.request.deadline < time.time():
                continue  # which the intake says
            started = time.perf_counter()
            try:
                model.read_images(work)
            except BaseException:  # a panic of Rust code is one, and nobody interrupts this thread
                log.exception("image_failed", model=task.task.model, request_id=work.request.request_id)
                work.error = InferenceFailed("an image could not be read")
            work.tokenization_s = time.perf_counter() - started
        self._arrive(task, works, estimated_tokens)

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything accepted is delivered; False if that took too long."""
        with self._delivered:
            return self._delivered.wait_for(lambda: self.unfinished == 0, timeout_s)

    def stop(self) -> None:
        """End the threads and the engine. What is not delivered stays unacknowledged."""
        self._stopping.set()
        self._pixels.shutdown(wait=False, cancel_futures=True)
        os.eventfd_write(self._bell, 1)
        self._delivery.give_up.set()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join(timeout=5)
        self._engine.stop()

    # Intake: check and tokenise, while the engine runs the batch before.

    def _take_in(self) -> None:
        while self._inbox:
            task, works, estimated_tokens = self._inbox.popleft()
            items = [item for work in works for item in self._prepare(task, work)]
            for work in works:
                work.is_prepared = True
            self._hold(task.task.model, task.lane, sum(item.tokens for item in items) - estimated_tokens)
            if items:
                self._by_name[task.task.model].lanes.add(task.lane, items)
            else:
                self._leave(task, works)

    def _prepare(self, task: TaskWork, work: RequestWork) -> list[Item]:
        """The items of a request; none when it has been answered with an error."""
        if work.error is not None:
            return []  # its images could not be read
        if work.request.deadline < time.time():
            self._expire(work, "the request expired in the queue before a worker could start it")
            return []
        started = time.perf_counter()
        try:
            model = self._model_for(task)
            tokens = model.sequences_of(work)
        except MillraceError as error:
            self._fail(work, error)
            return []
        except BaseException:  # as above
            log.exception("tokenization_failed", model=task.task.model, request_id=work.request.request_id)
            self._fail(work, InferenceFailed("the input could not be tokenised"))
            return []
        work.tokenization_s += time.perf_counter() - started
        now = time.monotonic()
        work.rows = [None] * len(tokens)
        work.remaining = len(tokens)
        items = [Item(work, index, entry, model.cost(entry), now) for index, entry in enumerate(tokens)]
        work.tokens = sum(len(item.sequence.ids) or item.tokens for item in items)
        return items

    def _model_for(self, task: TaskWork) -> ServedModel:
        model = self._by_name.get(task.task.model)
        if model is None:
            raise ModelNotFound(f"this worker does not serve model {task.task.model}")
        return model

    # Inference: plan, submit, receive.

    def _infer(self) -> None:
        while not self._stopping.is_set():
            try:
                self._wait_for_bell_or_result()
                self._take_in()
                planned = self._plan()
                for batch in planned:
                    self._submit(batch, alone=len(planned) == 1 and not self._in_flight)
            except EngineLost as err:
                if not self._stopping.is_set():
                    self._replace_engine(str(err))

    def _wait_for_bell_or_result(self) -> None:
        """Sleep until a task arrives or the engine answers; take the answer.

        Raises:
            EngineLost: It died, or a batch has been with it for longer than the timeout.
        """
        if not self._in_flight and self._has_work():
            return
        patience_s = None
        if self._in_flight:
            oldest = next(iter(self._in_flight.values()))
            patience_s = oldest.submitted_at + self._patience_with(oldest) - time.monotonic()
        called, answered = self._engine.wait(self._bell, patience_s)
        if called:
            os.eventfd_read(self._bell)
        if answered:
            self._complete(self._engine.receive())
        elif patience_s is not None and (not called or patience_s <= 0):
            raise EngineLost(f"no result for {self._patience_with(oldest):.0f} s")

    def _patience_with(self, batch: _Planned) -> float:
        """How long a batch may take before it is called hung, in seconds."""
        expected_s = sum(item.tokens for item in batch.items) / batch.model.tokens_per_s
        is_suspected = any(item.failures for item in batch.items)
        least_s = self._patience_s * (_SUSPECTS_PATIENCE if is_suspected else 1.0)
        return min(self._engine.batch_timeout_s, max(least_s, _SLOWNESS * expected_s))

    def _has_work(self) -> bool:
        return bool(self._again) or any(len(model.lanes) for model in self._models)

    def _plan(self) -> list["_Planned"]:
        planned: list[_Planned] = []
        while self._again:
            # What was in a failed batch runs with nothing beside it: the next failure is then its own.
            if self._in_flight:
                return []
            batch = self._again.popleft()
            if items := self._still_wanted(batch.items):
                return [_Planned(batch.model, items)]
        while (free := self._depth - len(self._in_flight) - len(planned)) > 0 and self._has_work():
            model = min(self._models, key=lambda model: model.lanes.urgency())
            shares = free if self._parallel > 1 else 1
            if items := self._still_wanted(model.lanes.take(time.monotonic(), shares=shares)):
                planned.append(_Planned(model, items))
        return planned

    def _still_wanted(self, items: list[Item]) -> list[Item]:
        """Drop what has expired, and what belongs to a request that has failed already."""
        now = time.time()
        wanted: list[Item] = []
        for item in items:
            work = item.work
            if work.error is None and work.request.deadline < now:
                self._expire(work, "the request expired in the worker before its turn came")
            if work.error is None:
                wanted.append(item)
            else:
                self._settle(item)
        return wanted

    def _submit(self, batch: "_Planned", *, alone: bool) -> None:
        batch.items.sort(key=lambda item: item.tokens)  # runs of equal lengths
        number = next(self._batch_numbers)
        batch.submitted_at = time.monotonic()
        self._in_flight[number] = batch
        wanted = {kind for item in batch.items for kind in item.work.kinds(batch.model.card)}
        sequences = Sequences.of([item.sequence for item in batch.items])
        self._engine.submit(Batch(number, batch.model.index, sequences, sorted(wanted), alone))
        for item in batch.items:
            task = item.work.task
            if not task.started:
                task.started = True
                self._on_started(task)

    def _complete(self, result: BatchResult) -> None:
        beside = min(len(self._in_flight), self._parallel)
        batch = self._in_flight.pop(result.batch)
        with self._delivered:
            self.moves += 1
        if result.memory is not None:
            show(self._metrics, result.memory)
        model, items = batch.model, batch.items
        rows, error = result.rows, result.error
        for kind, of_kind in (rows or {}).items():
            if len(of_kind) != len(items):
                error = f"the model returned {len(of_kind)} {kind} rows for {len(items)} inputs"
        if self._spans is not None:
            self._spans.ran(model.card.name, items, batch.submitted_at, error)
        outcome = "failed" if rows is None or error else "ok"
        self._metrics.counter("millrace_batches_total", model=model.card.name, outcome=outcome).inc()
        if rows is None or error:
            if result.out_of_memory:
                self._make_smaller_batches(model, items)
            self._split(model, items, error or "no rows", out_of_memory=result.out_of_memory)
            return
        model.ran_clean()
        by_kind = [[(kind, piece) for piece in of_kind.pieces()] for kind, of_kind in rows.items()]
        for item, pieces in zip(items, zip(*by_kind, strict=True), strict=True):
            item.work.rows[item.index] = dict(pieces)
        now = time.monotonic()
        for item in items:
            item.work.ran(now - item.arrived_at, result.seconds)
            self._settle(item)
        self._measure(model, batch, result.seconds, beside)  # last: the results are on their way already

    def _measure(self, model: ServedModel, batch: _Planned, seconds: float, beside: int) -> None:
        items = batch.items
        tokens = sum(item.tokens for item in items)
        model.observe_speed(tokens * beside, seconds)
        name = model.card.name
        self._metrics.histogram("millrace_batch_duration_seconds", model=name).observe(seconds)
        self._metrics.histogram("millrace_batch_items", model=name).observe(len(items))
        self._metrics.histogram("millrace_batch_tokens", model=name).observe(tokens)
        self._metrics.histogram("te_batch_inference_duration").observe(seconds)
        self._metrics.histogram("te_batch_inference_size").observe(len(items))
        self._metrics.histogram("te_batch_next_size").observe(len(items))
        self._metrics.histogram("te_batch_next_tokens").observe(tokens)
        for work, arrived_at in {item.work: item.arrived_at for item in items}.items():
            waits = self._metrics.histogram("millrace_queue_wait_seconds", model=name, lane=str(work.task.lane))
            waits.observe(batch.submitted_at - arrived_at)

    def _make_smaller_batches(self, model: ServedModel, items: Sequence[Item]) -> None:
        tokens = sum(item.tokens for item in items)
        model.ran_out_of_memory(tokens)
        log.warning(
            "out_of_memory", model=model.card.name, tokens=tokens, max_batch_tokens=model.lanes.max_batch_tokens
        )
        self._metrics.counter("millrace_out_of_memory_total", model=model.card.name).inc()

    def _split(self, model: ServedModel, items: list[Item], reason: str, *, out_of_memory: bool = False) -> None:
        """Run the halves of a failed batch on their own; an input that fails alone is answered with the error."""
        self._hurry(items)
        if len(items) == 1:
            (item,) = items
            blamed, index = _blamed(item)
            error = InferenceFailed(f"{blamed}: the model failed on it: {reason}", index=index)
            if out_of_memory:
                error = OutOfMemory(
                    f"{blamed} with its {item.tokens} tokens does not fit into the memory of the worker's device, not even "
                    "alone; shorten it",
                    index=index,
                )
            self._fail(item.work, error)
            self._settle(item)
            return
        middle = len(items) // 2
        self._again.extend([_Planned(model, items[:middle]), _Planned(model, items[middle:])])

    def _hurry(self, items: Sequence[Item]) -> None:
        """Answer what is done of some tasks, and whatever will be, ahead of the rest: finding a culprit may take long."""
        for task in {item.work.task: None for item in items}:
            if not task.is_troubled:
                task.is_troubled = True
                if done := task.done:
                    self._outbox.put(_Advanced(task, done))

    def _isolate(self, model: ServedModel, items: list[Item], reason: str) -> None:
        """Run what was in a lost batch again, so that the one that the engine dies on is found in few more deaths."""
        if len(items) == 1:
            (item,) = items
            if item.work.error is None:
                item.work.task.letters.append(self._letter(item, reason))
            self._split(model, items, "the engine process died on it")
            return
        size = 1 if len(items) <= _ALONE else _ALONE
        self._again.extend(_Planned(model, items[start : start + size]) for start in range(0, len(items), size))

    def _letter(self, item: Item, reason: str) -> DeadLetter:
        work, task = item.work, item.work.task
        _, index = _blamed(item)
        return DeadLetter(
            task=task.task_id,
            queue=queue_name(task.task.model, task.lane),
            worker=self._delivery.worker,
            deaths=item.failures,
            at=time.time(),
            reason=f"the engine process died on it: {reason}",
            model=task.task.model,
            lane=str(task.lane),
            requests=[inputs_of(work.request, index)],
        )

    def _replace_engine(self, reason: str) -> None:
        """Start a new engine process, and run what the lost one had again in smaller groups."""
        log.warning("engine_lost", reason=reason, batches=len(self._in_flight))
        self._metrics.counter("millrace_engine_restarts_total", reason="lost").inc()
        self.engine_ready = False
        lost, self._in_flight = list(self._in_flight.values()), {}
        for batch in lost:
            if self._spans is not None:
                self._spans.ran(batch.model.card.name, batch.items, batch.submitted_at, reason)
            self._hurry(batch.items)
            for item in batch.items:
                item.failures += 1
            if len(batch.items) == 1 and batch.items[0].failures < _FATAL_FAILURES:
                self._again.append(batch)  # it may have been bad luck: once more, alone
            else:
                self._isolate(batch.model, batch.items, reason)
        for attempt in count():
            if self._stopping.wait(_RESTART_PAUSES_S[min(attempt, len(_RESTART_PAUSES_S) - 1)]):
                return
            self._engine.stop()
            try:
                self._engine.launch()
                self._engine.wait_ready()
            except EngineStartError as err:
                log.error("engine_not_restarted", reason=str(err))  # noqa: TRY400 - the sentence says it all
            else:
                break
        self.engine_ready = True
        log.info("engine_replaced", pid=self._engine.pid)

    # Settling items, requests and tasks.

    def _fail(self, work: RequestWork, error: MillraceError) -> None:
        if work.error is None:
            work.error = error
            self._metrics.counter("millrace_failed_requests_total", model=work.task.task.model, code=error.code).inc()

    def _expire(self, work: RequestWork, reason: str) -> None:
        labels = {"model": work.task.task.model, "lane": str(work.task.lane)}
        self._metrics.counter("millrace_expired_requests_total", **labels).inc()
        self._fail(work, DeadlineExceeded(reason))

    def _settle(self, item: Item) -> None:
        """An item has its row, or will never have one."""
        work = item.work
        work.remaining -= 1
        self._hold(work.task.task.model, work.task.lane, -item.tokens)
        if work.remaining == 0:
            self._leave(work.task, [work])

    def _leave(self, task: TaskWork, works: Sequence[RequestWork]) -> None:
        """Some requests of a task can be answered: so can the task, or what is done of it."""
        if all(other.is_done for other in task.requests):
            self._outbox.put(task)
        elif task.is_in_turn and sum(not other.is_done for other in task.requests) > 1:
            # Of hundreds, all that is done would be much to tell each time; it is told before the last one, which may be
            # the culprit.
            self._outbox.put(_Advanced(task, [task.requests.index(work) for work in works]))
        elif task.is_troubled:
            self._outbox.put(_Advanced(task, task.done))

    def _hold(self, name: str, lane: Lane, tokens: int) -> None:
        """Count what a lane holds, and close or open its queue."""
        model = self._by_name.get(name)
        if model is None or not tokens:
            return
        name_in_redis = queue_name(name, lane)
        with self._flow_lock:
            self._held[name, lane] += tokens
            closed = self._held[name, lane] >= model.held_limit(lane)
            if closed == (name_in_redis in self.closed):
                return
            self.closed = self.closed ^ {name_in_redis}
            self._on_flow(self.closed)

    # Delivery: store, publish, acknowledge.

    def _deliver(self) -> None:
        while (first := self._outbox.get()) is not None:
            leaving = [first]
            while not self._outbox.empty():
                another = self._outbox.get()
                if another is None:
                    self._outbox.put(None)
                    break
                leaving.append(another)
            tasks = [task for task in leaving if isinstance(task, TaskWork)]
            last: dict[TaskWork, list[int]] = {}
            if len(tasks) < len(leaving):
                last = {one.task: one.done for one in leaving if isinstance(one, _Advanced) and one.task not in tasks}
            advanced = [self._advanced(task, done) for task, done in last.items()]
            finished = [self._finished(task) for task in tasks]
            if not self._delivery.deliver(finished, advanced):
                return
            if last:
                self._on_advanced(list(last))
            if tasks:
                self._on_finished(tasks)
                if self._spans is not None:
                    self._spans.answered(tasks)
            with self._delivered:
                self.unfinished -= len(tasks)
                self.moves += 1
                self._delivered.notify_all()

    def _advanced(self, task: TaskWork, done: Sequence[int]) -> Advanced:
        model = self._by_name.get(task.task.model)
        return Advanced(task.task_id, {position: _reply(task.requests[position], model) for position in done})

    def _finished(self, task: TaskWork) -> Finished:
        model = self._by_name.get(task.task.model)
        replies = [_reply(work, model) for work in task.requests]
        return Finished(task.task_id, task.delivery_tag, replies, task.letters)


def _reply(work: RequestWork, model: ServedModel | None) -> Reply:
    if work.error is not None or model is None:
        return work.error or ModelNotFound()
    try:
        return work.reply(model.card, model.int8_ranges)
    except Exception:
        log.exception("reply_failed", model=model.card.name, request_id=work.request.request_id)
        return InferenceFailed("no answer could be made of what the model returned")


def _blamed(item: Item) -> tuple[str, int | None]:
    """What an item is called in its request, and the place that it has there."""
    request = item.work.request
    if isinstance(request, EmbedRequest) and request.late_chunking:
        return "the document of all inputs", None
    index = first_place(request, len(item.work.rows)) + item.index
    return called(index), index


def _has_images(work: RequestWork) -> bool:
    return isinstance(work.request, EmbedRequest) and work.request.images is not None
