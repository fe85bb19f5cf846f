"""What answers requests, without HTTP around it: the gateway and the job runner are both built on it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import api.dialects
from api.access.limits import CONNECTIONS, TenantLimits
from api.access.register import KeyRegister
from api.access.usage import Usage
from api.admission import Admission
from api.append_only_file import AppendOnlyFile
from api.backlog import Backlog
from api.catalog import Catalog
from api.cl100k import Cl100k
from api.dispatch import Dispatcher
from api.endpoint import Endpoint
from api.fleet import SILENT_AFTER_S, Fleet
from api.images import ImageFetcher
from api.redis_gauges import ASKED_OF_REDIS
from api.replies import Replies
from api.routing import contenders_by_path
from api.settings import ApiSettings
from api.stages import Stages
from shared.background import stop_if_it_failed
from shared.logging import get_logger
from shared.metrics import Metrics
from shared.plugins import discover
from shared.queues import Lane
from shared.redis_address import connect_aio, connect_aio_waiting

log = get_logger("millrace.core")

#: Time for a command to Redis before its connection is given up, in seconds.
_SOCKET_TIMEOUT_S = 4.0
#: Connections for what routes ask of Redis beside publishing and waiting for replies, and how long a request waits for one,
#: in seconds. However many ask, publication and the look after workers have connections of their own.
_ROUTES_CONNECTIONS, _ROUTES_PATIENCE_S = 32, 5.0


class Core:
    """Connections, the fleet, the dispatcher and the dialects of one process. Connects when it runs, not before."""

    def __init__(
        self,
        settings: ApiSettings,
        metrics: Metrics,
        *,
        name: str,
        max_pending_items: int,
        traceparent: Callable[[], str] = str,
    ) -> None:
        """Build it.

        Args:
            settings: The deployment's.
            metrics: Of this process.
            name: What the process's task ids begin with.
            max_pending_items: Inputs that may wait for their answers.
            traceparent: See `Dispatcher`.

        Raises:
            ConfigurationError: The keys file is wrong, or the table of token ids that a model takes cannot be had.
        """
        self.register = KeyRegister(settings.api_key, settings.keys_file)
        process_id = f"{name}{uuid4().hex[:12]}"
        url = settings.redis_url.get_secret_value()
        # No retries inside the client: the sweep publishes again what is missing, and knows what was not.
        timeouts = {"socket_timeout": _SOCKET_TIMEOUT_S, "socket_connect_timeout": 2.0}
        options = {**timeouts, "retry": Retry(NoBackoff(), 1)}
        self._dispatch_redis = connect_aio(url, **options)
        self._watch_redis = connect_aio(url, socket_timeout=SILENT_AFTER_S, socket_connect_timeout=2.0)
        self.redis = connect_aio_waiting(
            url, max_connections=_ROUTES_CONNECTIONS, patience_s=_ROUTES_PATIENCE_S, **options
        )
        self._limits_redis = connect_aio_waiting(url, max_connections=CONNECTIONS, patience_s=None, **timeouts)
        self.limits = TenantLimits(self._limits_redis)
        self.usage = Usage(self.redis, metrics, ttl_s=settings.usage_ttl_s)
        self._subscriber = connect_aio(url, socket_timeout=None, socket_connect_timeout=2.0)
        self.backlog = Backlog(process_id)
        self.fleet = Fleet(self._watch_redis, self.backlog, metrics, result_ttl_s=settings.result_ttl_s)
        self.admission = Admission(self.fleet, self.backlog, max_pending_items=max_pending_items)
        self.replies = Replies(self._dispatch_redis, self._subscriber, metrics, process_id)
        stages = Stages(metrics)
        self.dispatcher = Dispatcher(
            self.replies,
            self.fleet,
            self.admission,
            metrics,
            stages,
            gateway_id=process_id,
            tasks_in_flight_per_worker=settings.tasks_in_flight_per_worker,
            traceparent=traceparent,
        )
        models = settings.models()
        self._show(metrics, [config.name for config in models])
        self.catalog = Catalog(
            models,
            self.fleet,
            self.backlog.items,
            any_name=settings.any_model_name,
            cl100k=Cl100k.load() if any(config.token_input == "cl100k" for config in models) else None,  # noqa: S105
        )
        self._images = ImageFetcher(
            max_bytes=settings.image_limit_bytes,
            timeout_s=settings.image_timeout_s,
            allowed_hosts=[host.strip() for host in settings.image_hosts.split(",") if host.strip()],
            enabled=settings.image_urls,
        )
        self.endpoint = Endpoint(self.catalog, self.dispatcher, self._images, metrics, stages, self.usage, settings)
        self.dialects = discover(api.dialects)
        #: Their routes by path.
        self.contenders = contenders_by_path(self.dialects, settings)

    def _show(self, metrics: Metrics, models: Iterable[str]) -> None:
        """Have metrics that are looked up whenever somebody asks for them."""
        metrics.gauge("millrace_redis_reachable").set_function(lambda: float(self.fleet.reachable))
        # Not 0 before they are known: what follows would look like a rise.
        fleet = self.fleet
        metrics.gauge("millrace_lost_workers").set_function(
            lambda: fleet.lost_workers if fleet.has_counts else math.nan
        )
        metrics.gauge("millrace_dead_letters").set_function(
            lambda: fleet.dead_letters if fleet.has_counts else math.nan
        )
        metrics.gauge("millrace_wedged_workers").set_function(fleet.wedged_workers)
        for gauge in ASKED_OF_REDIS:
            metrics.gauge(gauge).set(math.nan)
        metrics.gauge("millrace_pending_requests").set_function(lambda: self.admission.pending_requests)
        metrics.gauge("millrace_pending_items").set_function(lambda: self.admission.pending_items)
        for model in models:
            for lane in Lane:
                oldest = metrics.gauge("millrace_oldest_request_seconds", model=model, lane=str(lane))
                oldest.set_function(partial(self.backlog.waits.oldest_here_s, model, lane))

    @asynccontextmanager
    async def running(self, *more: Awaitable[None]) -> AsyncIterator[None]:
        """Connect, and run what goes on in the background, with `more` of it, until the block ends."""
        loops = (
            self.fleet.run(),
            self.replies.listen(),
            self.replies.sweep(),
            self.register.watch(),
            self.limits.renew(),
            self.usage.run(),
            AppendOnlyFile(self.redis).watch(),
            *more,
        )
        background = [asyncio.ensure_future(run) for run in loops]
        for task in background:
            task.add_done_callback(partial(stop_if_it_failed, log))
        try:
            yield
        finally:
            # More than once: `asyncio.wait_for` inside redis-py can swallow a cancellation (Python 3.11).
            while running := [task for task in background if not task.done()]:
                for task in running:
                    task.cancel()
                await asyncio.wait(running, timeout=0.05)
            await self.usage.flush()
            await self._dispatch_redis.aclose()
            await self._watch_redis.aclose()
            await self.redis.aclose()
            await self._limits_redis.aclose()
            await self._subscriber.aclose()
            await self._images.aclose()
