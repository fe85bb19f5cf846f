"""What a worker process is made of: engine, pipeline, heartbeat, metrics. The pool starts it, Celery drives it."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from redis import Redis

from shared.leases import RENEW_TIMEOUT_S
from shared.logging import get_logger
from shared.metrics import Metrics, Owner
from shared.model_card import State, WorkerCard
from shared.operations import serve_operations
from shared.queues import Lane, queue_name
from shared.redis_address import connect
from shared.tracing import Tracing
from workers.delivery import Delivery
from workers.engine_process import EngineProcess
from workers.engine_protocol import EngineOptions, EngineReady
from workers.heartbeat import Heartbeat
from workers.pipeline import Pipeline
from workers.served_model import ServedModel
from workers.settings import WorkerSettings
from workers.suspects import Suspects
from workers.watchdog import Activity, Watchdog
from workers.work import TaskWork

if TYPE_CHECKING:  # imported where traces are on, and nowhere else
    from workers.tracing import WorkSpans

log = get_logger("millrace.worker")


class Runtime:
    """One worker process's parts."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        #: Names this process's lease and unacknowledged messages; a restarted worker is another one.
        self.worker = f"{settings.worker_name}@{socket.gethostname()}-{uuid4().hex[:8]}"
        self.metrics = Metrics(Owner.WORKER)
        self.draining = False
        self.engine = EngineProcess(
            EngineOptions.of(settings),
            module=settings.engine,
            start_timeout_s=settings.engine_start_timeout_s,
            batch_timeout_s=settings.engine_timeout_s,
        )
        self._url = settings.redis_url.get_secret_value()
        self._ready: EngineReady | None = None
        self._pipeline: Pipeline | None = None
        self._models: list[ServedModel] = []
        self._spans = work_spans(settings.otlp_endpoint, self.worker)
        self._heartbeat: Heartbeat | None = None
        self._watchdog: Watchdog | None = None

    def redis(self, timeout_s: float = 3.0) -> Redis:
        """A client that notices a dead connection within some seconds."""
        return connect(self._url, socket_timeout=timeout_s, socket_connect_timeout=2.0, health_check_interval=5)

    def load(self) -> None:
        """Wait until the engine (already launched) has run every model once.

        Raises:
            EngineStartError: It cannot.
        """
        self._ready = self.engine.wait_ready()

    def start(
        self,
        *,
        on_started: Callable[[TaskWork], None],
        on_advanced: Callable[[Sequence[TaskWork]], None],
        on_finished: Callable[[Sequence[TaskWork]], None],
        on_flow: Callable[[frozenset[str]], None],
    ) -> Pipeline:
        """Start pipeline, heartbeat and metrics endpoint; the lease is held when this returns."""
        if self._ready is None:
            raise RuntimeError("load() comes first")
        settings = self.settings
        self._models = [
            ServedModel(
                index,
                model,
                bulk_batch_s=settings.bulk_batch_s,
                aging_s=settings.bulk_aging_s,
                parallel=self._ready.batches_in_flight if self._ready.parallel else 1,
            )
            for index, model in enumerate(self._ready.models)
        ]
        self._pipeline = Pipeline(
            self.engine,
            self._models,
            Delivery(self.redis(), self.worker, self.metrics, result_ttl_s=settings.result_ttl_s),
            self.metrics,
            self._spans,
            batches_in_flight=self._ready.batches_in_flight,
            parallel=self._ready.parallel,
            patience_s=settings.engine_patience_s,
            on_started=on_started,
            on_advanced=on_advanced,
            on_finished=on_finished,
            on_flow=on_flow,
        )
        self._pipeline.start()
        self._watchdog = watchdog = Watchdog(self.redis(), self._activity, wedged_after_s=settings.wedged_after_s)
        self.metrics.gauge("millrace_standstill_seconds").set_function(lambda: watchdog.standstill_s)
        self._heartbeat = Heartbeat(
            self.redis(RENEW_TIMEOUT_S), self.worker, self.card, result_ttl_s=settings.result_ttl_s
        )
        self._heartbeat.start()
        self._watchdog.start()
        if settings.worker_metrics_port:
            serve_operations(
                settings.worker_metrics_host,
                settings.worker_metrics_port,
                self.metrics.registry,
                self._watchdog.trouble,
                [int(port) for port in settings.worker_metrics_ports.split(",") if port],
            )
        log.info(
            "worker_ready",
            worker=self.worker,
            device=self._device(self._ready),
            models=[model.card.name for model in self._models],
        )
        return self._pipeline

    def suspects(self, pipeline: Pipeline) -> Suspects:
        """Who runs this worker's suspects through its pipeline."""
        return Suspects(self.redis(), self.worker, pipeline.begin_one)

    def card(self) -> WorkerCard:
        """What this worker says about itself now."""
        pipeline, ready, watchdog = self._pipeline, self._ready, self._watchdog
        if pipeline is None or ready is None or watchdog is None:
            raise RuntimeError("the runtime has not been started")
        state: State = "ready"
        if self.draining:
            state = "draining"
        elif watchdog.trouble():
            state = "wedged"
        elif not pipeline.engine_ready:
            state = "restarting"
        return WorkerCard(
            worker=self.worker,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            device=self._device(ready),
            state=state,
            models=[model.card_now() for model in self._models],
        )

    def _device(self, ready: EngineReady) -> str:
        return self.settings.device_label or ready.device

    def _activity(self) -> Activity:
        """What the watchdog looks at."""
        pipeline, heartbeat = self._pipeline, self._heartbeat
        if pipeline is None or heartbeat is None:
            raise RuntimeError("the runtime has not been started")
        queues = (queue_name(model.card.name, lane) for model in self._models for lane in Lane)
        return Activity(
            moves=pipeline.moves,
            held=pipeline.unfinished,
            queues=tuple(queue for queue in queues if queue not in pipeline.closed),
            # The pipeline itself replaces an engine that takes longer.
            allowed_s=self.engine.batch_timeout_s if pipeline.is_computing else 0.0,
            is_able=heartbeat.reachable and pipeline.engine_ready and not self.draining,
        )

    def close(self) -> None:
        """Give the lease back."""
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self.engine.stop()
        if self._spans is not None:
            self._spans.close()


def work_spans(endpoint: str, worker: str) -> "WorkSpans | None":
    """Who is told of the worker's spans; None where traces are off.

    Raises:
        ConfigurationError: The packages for them are not installed.
    """
    if not endpoint:
        return None
    tracing = Tracing(endpoint, "millrace-worker", worker, chooses=False)
    from workers.tracing import WorkSpans

    return WorkSpans(tracing)
