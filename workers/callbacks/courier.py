"""Delivers one event: looks it up, finds its receiver, sends it, and records how that ended."""

import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

import workers.sinks
from shared.bulk.event_table import EventTable
from shared.bulk.events import WHOLE_JOB, Attempt, Event, EventState, Target, TargetKind
from shared.bulk.jobs import Job
from shared.bulk.results import SegmentResults
from shared.bulk.sending import Answer, Sender
from shared.bulk.sinks import SinkConfig
from shared.bulk.store import Store, output_path
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry, signing_secrets, why_stopped
from shared.errors import InvalidRequest, MillraceError, NotStored
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.model_config import ConfigurationError
from shared.plugins import discover
from workers.callbacks.loop import LoopThread
from workers.callbacks.retries import Outcome, after_failure
from workers.callbacks.settings import CallbackSettings
from workers.sink import DeliveryFailed, OpenSink, Parcel, Sink, Tools, Verdict

log = get_logger("millrace.callbacks")

#: Pauses before an outcome is recorded again when Redis is away, in seconds. Afterwards the event's lease ends, and it is
#: sent once more.
_RECORD_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_GONE = "it answered 410"
#: How attempts end.
_RETRIED = "retried"
_OUTCOMES = (str(EventState.DELIVERED), _RETRIED, str(EventState.DEAD))


class Courier:
    """Carries events to their receivers; called by many threads."""

    def __init__(
        self,
        settings: CallbackSettings,
        redis: Redis,
        loop: LoopThread,
        sinks: Mapping[str, SinkConfig],
        metrics: Metrics,
    ) -> None:
        """Build a courier.

        Args:
            settings: Timeouts, sizes, delays.
            redis: A client that is used on the loop only.
            loop: Where it is used.
            sinks: The operator's.
            metrics: Of this process.

        Raises:
            StorageUnavailable: The store's settings are wrong.
        """
        self._settings = settings
        self._loop = loop
        self._metrics = metrics
        self._configs = sinks
        self._plugins: dict[str, Sink] = discover(workers.sinks)
        self._open: dict[bytes, OpenSink] = {}
        self._store = Store(settings.store_url())
        self._table = JobTable(redis)
        self._events = EventTable(redis)
        allowed = settings.allowed_webhook_hosts()
        self._registry = WebhookRegistry(redis, allowed)
        self._sender = Sender(allowed, timeout_s=settings.webhook_timeout_s)
        self._tools = Tools(self._post, settings.webhook_body_bytes, settings.public_url)
        self._delays = settings.retry_delays()
        self._counting = threading.Lock()
        #: Events that have been begun or ended so far ...
        self.moves = 0
        #: ... and those that are under way.
        self.held = 0
        # There from the beginning, so that the first one counts as a rise.
        for kind in TargetKind:
            for outcome in _OUTCOMES:
                metrics.counter("millrace_callbacks_total", target=str(kind), outcome=outcome)

    def carry(self, event_id: str, token: int) -> str:
        """Deliver an event that was given out under a lease; how that ended, for Celery's tools."""
        self._moved(1)
        try:
            return self._carry(event_id, token)
        finally:
            self._moved(-1)

    def _moved(self, more: int) -> None:
        with self._counting:
            self.moves += 1
            self.held += more

    def _carry(self, event_id: str, token: int) -> str:
        try:
            event = self._loop.call(self._events.begin(event_id, token, lease_s=self._settings.webhook_lease_s))
        except (RedisError, OSError) as err:
            log.warning("callback_postponed", event_id=event_id, error=str(err))
            return "postponed"  # its lease ends, and it is given out again
        if event is None:
            return "stale"
        target = Target.parse(event.target)
        started, stopped, outcome = time.time(), "", Outcome(EventState.DELIVERED)
        attempt = Attempt(at=started)
        try:
            attempt = attempt.model_copy(update={"status": self._deliver(event, target)})
        except DeliveryFailed as failure:
            attempt = attempt.model_copy(update={"status": failure.status, "error": failure.reason})
            outcome = after_failure(failure, event.attempts, self._delays, random.random())  # noqa: S311 - jitter
            stopped = self._stop(event, target, failure)
        except (RedisError, OSError) as err:
            log.warning("callback_postponed", event_id=event_id, error=str(err))
            return "postponed"
        seconds = time.time() - started
        self._record(event, outcome, attempt.model_copy(update={"ms": round(seconds * 1000)}), stopped)
        verdict = _RETRIED if outcome.state is EventState.PENDING else str(outcome.state)
        self._metrics.counter("millrace_callbacks_total", target=str(target.kind), outcome=verdict).inc()
        self._metrics.histogram("millrace_callback_duration_seconds", target=str(target.kind)).observe(seconds)
        facts = {"event_id": event.id, "type": str(event.type), "status": attempt.status, "seconds": round(seconds, 3)}
        if attempt.error:
            retry_s = round(outcome.delay_s, 1) if outcome.state is EventState.PENDING else None
            log.warning("callback_failed", **facts, reason=attempt.error, state=verdict, retry_s=retry_s)
        else:
            log.info("callback_delivered", **facts)
        return verdict

    async def measure(self) -> None:
        """Write the gauge of what is waiting."""
        self._metrics.gauge("millrace_pending_callbacks").set(await self._events.waiting())

    def close(self) -> None:
        """Give up connections."""
        for sink in self._open.values():
            sink.close()
        self._loop.call(self._sender.aclose())

    def _deliver(self, event: Event, target: Target) -> int | None:
        job = self._loop.call(self._table.find(event.job))
        if job is None:
            raise DeliveryFailed("the job was deleted", verdict=Verdict.GIVE_UP)
        is_whole = event.segment == WHOLE_JOB
        segment = None if is_whole else self._loop.call(self._table.segment(job.id, event.segment))
        parcel = Parcel(event, job, segment, lambda: self._results(event))
        try:
            sink = self._webhook(target.name) if target.kind is TargetKind.WEBHOOK else self._sink(target.name, job)
            return sink.deliver(parcel)
        except DeliveryFailed:
            raise
        except (ConfigurationError, InvalidRequest) as err:
            raise DeliveryFailed(f"sink {target.name}: {err}", verdict=Verdict.GIVE_UP) from err
        except MillraceError as err:
            raise DeliveryFailed(err.message) from err
        except (RedisError, OSError):
            raise
        except Exception as err:
            log.exception("callback_crashed", event_id=event.id)
            raise DeliveryFailed(f"internal error ({type(err).__name__})") from err

    def _results(self, event: Event) -> SegmentResults:
        try:
            return SegmentResults.unpack(self._store.read(output_path(event.job, event.segment)))
        except NotStored as err:
            raise DeliveryFailed("the results are no longer stored", verdict=Verdict.GIVE_UP) from err

    def _webhook(self, endpoint_id: str) -> OpenSink:
        endpoint = self._loop.call(self._registry.find(endpoint_id))
        if endpoint is None:
            raise DeliveryFailed(f"webhook endpoint {endpoint_id} was deleted", verdict=Verdict.GIVE_UP)
        if endpoint.disabled:
            raise DeliveryFailed(why_stopped(endpoint_id, endpoint.disabled), verdict=Verdict.GIVE_UP)
        options = {"url": endpoint.url, "secrets": signing_secrets(endpoint)}
        return self._plugins[TargetKind.WEBHOOK].open(options, self._tools)

    def _sink(self, name: str, job: Job) -> OpenSink:
        config = self._configs.get(name)
        if config is None:
            raise ConfigurationError("it is not declared in sinks.yaml (MILLRACE_SINKS_FILE)")
        plugin = self._plugin(config)
        given = job.spec.delivery.sink_options
        known = orjson.dumps([name, given], option=orjson.OPT_SORT_KEYS)
        if known not in self._open:
            options = config.merged(given, plugin.caller_options, os.environ)
            self._open.setdefault(known, plugin.open(options, self._tools))
        return self._open[known]

    def _plugin(self, config: SinkConfig) -> Sink:
        plugin = self._plugins.get(config.kind)
        if plugin is None:
            raise ConfigurationError(f"there is no type {config.kind!r}; there are: {', '.join(self._plugins)}")
        return plugin

    def _stop(self, event: Event, target: Target, failure: DeliveryFailed) -> str:
        """Disable an endpoint that wants nothing any more; what the job says then that names it, else empty."""
        if failure.verdict is not Verdict.GONE or target.kind is not TargetKind.WEBHOOK:
            return ""
        self._loop.call(self._registry.disable(target.name, _GONE))
        log.warning("webhook_disabled", endpoint=target.name, reason=_GONE)
        return why_stopped(target.name, _GONE) if event.own else ""

    def _record(self, event: Event, outcome: Outcome, attempt: Attempt, stopped: str) -> None:
        for pause_s in (*_RECORD_PAUSES_S, None):
            try:
                self._loop.call(
                    self._events.settle(event, outcome.state, attempt, delay_s=outcome.delay_s, stopped=stopped)
                )
            except (RedisError, OSError) as err:
                log.warning("callback_not_recorded", event_id=event.id, error=str(err))
                if pause_s is not None:
                    time.sleep(pause_s)
            else:
                return

    def _post(self, url: str, body: bytes, headers: Mapping[str, Any]) -> Answer:
        return self._loop.call(self._sender.post(url, body, headers))
