"""Every Prometheus metric, in one table; the documentation and the dashboards are checked against it.

Names are `millrace_<noun>_<unit>[_total]` in base units, labels come from closed sets. Beside them stand TEI's `te_*`
names, so that dashboards and KEDA rules written for it keep working. TEI's counters have no `_total` suffix, which
prometheus-client adds to every counter: those are exposed as gauges that only rise (PromQL treats both alike).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

CollectorT = TypeVar("CollectorT", bound=MetricWrapperBase)


class Kind(StrEnum):
    """Type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Owner(StrEnum):
    """The process that exposes a metric."""

    GATEWAY = "gateway"
    WORKER = "worker"
    CALLBACKS = "callback worker"
    RUNNER = "job runner"


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table."""

    name: str
    kind: Kind
    owner: Owner
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
#: TEI's duration buckets: 1.5e-5 * 1.5^k seconds.
_TE_SECONDS = tuple(1.5e-5 * 1.5**k for k in range(35))

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_GW, _WK = Owner.GATEWAY, Owner.WORKER
_ML = ("model", "lane")
_TM = ("tenant", "model")

METRICS: tuple[Metric, ...] = (
    Metric("millrace_requests_total", _C, _GW, "HTTP requests answered.", ("dialect", "operation", "code")),
    Metric("millrace_refused_requests_total", _C, _GW, "HTTP requests refused because of their key.", ("code",)),
    Metric("millrace_tenant_requests_total", _C, _GW, "Requests and lines of batches answered.", _TM),
    Metric("millrace_tenant_items_total", _C, _GW, "Texts and documents of tenants.", _TM),
    Metric("millrace_tenant_tokens_total", _C, _GW, "Tokens that models have read for tenants.", _TM),
    Metric("millrace_request_duration_seconds", _H, _GW, "HTTP request time.", ("dialect", "operation"), _SECONDS),
    Metric(
        "millrace_stage_duration_seconds",
        _H,
        _GW,
        "Time of answered requests in a stage: gateway, queue, tokenize, infer, reply.",
        ("stage", "model", "lane"),
        _SECONDS,
    ),
    Metric("millrace_request_items", _H, _GW, "Texts or documents per request.", ("operation",), _SIZES),
    Metric("millrace_tokens_total", _C, _GW, "Tokens of successful requests.", ("model", "operation")),
    Metric("millrace_truncated_inputs_total", _C, _GW, "Inputs cut to the model's maximum length.", ("model",)),
    Metric("millrace_pending_requests", _G, _GW, "Requests accepted and not yet answered."),
    Metric("millrace_pending_items", _G, _GW, "Texts and documents accepted and not yet answered."),
    Metric("millrace_large_bodies_bytes", _G, _GW, "Room that large request bodies take, of `large_bodies_bytes`."),
    Metric("millrace_large_answers_bytes", _G, _GW, "Room that large answers take, of `large_answers_bytes`."),
    Metric("millrace_oldest_request_seconds", _G, _GW, "Age of the oldest request accepted and not yet answered.", _ML),
    Metric("millrace_tasks_published_total", _C, _GW, "Celery tasks published.", _ML),
    Metric("millrace_tasks_republished_total", _C, _GW, "Tasks published again because they were lost.", _ML),
    Metric("millrace_task_requests", _H, _GW, "Requests gathered in one task.", _ML, _SIZES),
    Metric("millrace_replies_total", _C, _GW, "Replies by the way they came: pubsub or sweep.", ("way",)),
    Metric("millrace_queue_length", _G, _GW, "Tasks waiting in the Redis list.", _ML),
    Metric(
        "millrace_backlog_seconds", _G, _GW, "Work that waits, of all gateways, at the workers' measured speed.", _ML
    ),
    Metric("millrace_workers", _G, _GW, "Live workers of a model.", ("model",)),
    Metric(
        "millrace_model_coverage",
        _G,
        _GW,
        "1 for what a model is: served; sleeping, with a worker as soon as work waits; missing, which it should not be.",
        ("model", "coverage"),
    ),
    Metric("millrace_unserved_seconds", _G, _GW, "How long work has waited for a model without a worker.", ("model",)),
    Metric("millrace_cold_start_seconds", _G, _GW, "What a sleeping model's worker may take; 0 for never.", ("model",)),
    Metric("millrace_model_awake", _G, _GW, "1 for a minute after each request for a model.", ("model",)),
    Metric("millrace_wedged_workers", _G, _GW, "Workers that do not get on though work waits."),
    Metric(
        "millrace_lost_workers", _G, _GW, "Workers that died or fell silent, ever; the same number at all gateways."
    ),
    Metric("millrace_recovered_tasks_total", _C, _GW, "Tasks taken back from dead workers by this gateway."),
    Metric(
        "millrace_dead_letters",
        _G,
        _GW,
        "Tasks given up after repeated worker deaths, and inputs that engines died of, ever; the same at all gateways.",
    ),
    Metric("millrace_redis_reachable", _G, _GW, "1 while Redis answers this process."),
    Metric("millrace_redis_persisting", _G, _GW, "1 unless Redis' last write to its disk failed."),
    Metric("millrace_redis_used_bytes", _G, _GW, "Memory that Redis takes."),
    Metric("millrace_redis_limit_bytes", _G, _GW, "Memory that Redis may take: its maxmemory, else the machine's."),
    Metric("millrace_redis_evicted_keys", _G, _GW, "Keys that Redis threw away for lack of memory since its start."),
    Metric("millrace_stored_bytes", _G, _GW, "What files and bulk jobs take in the store."),
    Metric("te_request_count", _G, _GW, "TEI: requests.", ("method",)),
    Metric("te_request_success", _G, _GW, "TEI: successful requests.", ("method",)),
    Metric("te_request_failure", _G, _GW, "TEI: failed requests.", ("err",)),
    Metric("te_request_duration", _H, _GW, "TEI: request time in seconds.", (), _TE_SECONDS),
    Metric("te_request_tokenization_duration", _H, _GW, "TEI: tokenisation time in seconds.", (), _TE_SECONDS),
    Metric("te_request_queue_duration", _H, _GW, "TEI: queue time in seconds.", (), _TE_SECONDS),
    Metric("te_request_inference_duration", _H, _GW, "TEI: inference time in seconds.", (), _TE_SECONDS),
    Metric("te_embed_count", _G, _GW, "TEI: texts to embed."),
    Metric("te_embed_success", _G, _GW, "TEI: texts embedded."),
    Metric("te_predict_count", _G, _GW, "TEI: documents to score."),
    Metric("te_predict_success", _G, _GW, "TEI: documents scored."),
    Metric("te_queue_size", _G, _GW, "TEI: texts and documents accepted and not yet answered."),
    Metric("millrace_batches_total", _C, _WK, "Forward passes.", ("model", "outcome")),
    Metric("millrace_batch_duration_seconds", _H, _WK, "Time of one forward pass.", ("model",), _SECONDS),
    Metric("millrace_batch_items", _H, _WK, "Items per forward pass.", ("model",), _SIZES),
    Metric("millrace_batch_tokens", _H, _WK, "Tokens per forward pass.", ("model",), _TOKENS),
    Metric("millrace_max_batch_tokens", _G, _WK, "Token budget of one forward pass, as learned.", ("model",)),
    Metric("millrace_parallel_batches", _G, _WK, "Forward passes that the engine computes at the same time."),
    Metric("millrace_out_of_memory_total", _C, _WK, "Batches that did not fit into memory.", ("model",)),
    Metric("millrace_held_tokens", _G, _WK, "Tokens taken from the queue and not yet computed.", _ML),
    Metric("millrace_expired_requests_total", _C, _WK, "Requests dropped before the forward pass.", _ML),
    Metric("millrace_failed_requests_total", _C, _WK, "Requests answered with an error.", ("model", "code")),
    Metric("millrace_engine_restarts_total", _C, _WK, "Engine processes replaced.", ("reason",)),
    Metric("millrace_standstill_seconds", _G, _WK, "How long work has waited without any of it moving."),
    Metric("millrace_engine_ready", _G, _WK, "1 while the engine process takes batches."),
    Metric("millrace_queue_wait_seconds", _H, _WK, "Time of an item in the worker's lane.", _ML, _SECONDS),
    Metric(
        "millrace_delivery_duration_seconds",
        _H,
        _WK,
        "Time to store, publish and acknowledge the results of tasks that ended together.",
        (),
        _SECONDS,
    ),
    Metric(
        "millrace_device_memory_bytes",
        _G,
        _WK,
        "Memory of the engine's device as of its last batches: allocated, reserved, free, total.",
        ("kind",),
    ),
    Metric("millrace_job_documents_total", _C, Owner.RUNNER, "Documents and lines of bulk jobs.", ("kind", "outcome")),
    Metric("millrace_running_segments", _G, Owner.RUNNER, "Segments of bulk jobs under way."),
    Metric("millrace_active_jobs", _G, Owner.RUNNER, "Bulk jobs that have not ended."),
    Metric(
        "millrace_stalled_job_seconds",
        _G,
        Owner.RUNNER,
        "How long the bulk job has gone without progress that has waited longest though it is its turn.",
    ),
    Metric("millrace_callbacks_total", _C, Owner.CALLBACKS, "Attempts at callbacks.", ("target", "outcome")),
    Metric("millrace_pending_callbacks", _G, Owner.CALLBACKS, "Callbacks of all jobs that have not ended."),
    Metric("millrace_callback_duration_seconds", _H, Owner.CALLBACKS, "Time of one attempt.", ("target",), _SECONDS),
    Metric("te_batch_inference_duration", _H, _WK, "TEI: time of one forward pass in seconds.", (), _TE_SECONDS),
    Metric("te_batch_inference_size", _H, _WK, "TEI: items per forward pass.", (), _SIZES),
    Metric("te_batch_next_size", _H, _WK, "TEI: items per forward pass.", (), _SIZES),
    Metric("te_batch_next_tokens", _H, _WK, "TEI: tokens per forward pass.", (), tuple(2.0**k for k in range(21))),
)


class Metrics:
    """The metrics of one process, on a registry of their own."""

    def __init__(self, *owners: Owner, metrics: Sequence[Metric] = METRICS) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in metrics:
            if metric.owner not in owners:
                continue
            if metric.kind is Kind.COUNTER:
                self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
            elif metric.kind is Kind.GAUGE:
                self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
            else:
                self._histograms[metric.name] = Histogram(
                    metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets
                )

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter `name`, with its labels set."""
        return _labelled(self._counters[name], labels)

    def gauge(self, name: str, **labels: str) -> Gauge:
        """The gauge `name`, with its labels set."""
        return _labelled(self._gauges[name], labels)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram `name`, with its labels set."""
        return _labelled(self._histograms[name], labels)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _labelled(collector: CollectorT, labels: dict[str, str]) -> CollectorT:
    return collector.labels(**labels) if labels else collector
