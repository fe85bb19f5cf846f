"""`python -m workers.callbacks`: one callback worker process."""

import os
import socket
import sys
import warnings
from uuid import uuid4

from celery.exceptions import SecurityWarning
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

import workers.sinks
from shared.bulk.sinks import configured_sinks
from shared.errors import StorageUnavailable
from shared.leases import CALLBACK_WORKERS, RENEW_TIMEOUT_S
from shared.logging import configure_logging, get_logger
from shared.loop_watch import LoopWatch
from shared.metrics import Metrics, Owner
from shared.model_config import ConfigurationError
from shared.operations import serve_operations
from shared.plugins import discover
from shared.queues import CALLBACK_QUEUE
from shared.redis_address import connect, connect_aio
from shared.settings import load_or_exit
from workers.callbacks.app import make_callback_app
from workers.callbacks.courier import Courier
from workers.callbacks.lease import Lease
from workers.callbacks.loop import LoopThread
from workers.callbacks.pool import CallbackPool
from workers.callbacks.settings import CallbackSettings
from workers.callbacks.sink_cards import SinkCards, card
from workers.sink import Sink
from workers.watchdog import Activity, Watchdog

log = get_logger("millrace.callbacks")


def main() -> int:
    """Deliver events until SIGTERM; what is under way is finished within the drain time."""
    settings = load_or_exit(CallbackSettings)
    configure_logging(settings.log_level, settings.log_format)
    # Celery warns root against pickle, which this worker does not accept; in a container root is the usual user.
    warnings.simplefilter("ignore", SecurityWarning)
    worker = f"{CALLBACK_WORKERS}{socket.gethostname()}-{uuid4().hex[:8]}"
    metrics = Metrics(Owner.CALLBACKS)
    url = settings.redis_url.get_secret_value()
    # Once more on a fresh connection: what is postponed waits for its lease to end.
    redis = connect_aio(
        url,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 1),
    )
    loop = LoopThread()
    try:
        sinks = configured_sinks(settings.sinks_file)
        courier = Courier(settings, redis, loop, sinks, metrics)
    except (ConfigurationError, StorageUnavailable) as err:
        return _give_up(str(err), os.EX_CONFIG)
    loop.start()
    lease = Lease(connect_aio(url, socket_timeout=RENEW_TIMEOUT_S, socket_connect_timeout=2.0), worker, courier.measure)
    try:
        loop.call(lease.take())
    except (RedisError, OSError) as err:
        return _give_up(f"Redis cannot be used: {err}", os.EX_UNAVAILABLE)
    loop.spawn(lease.keep())
    loop.spawn(lease.measure())
    turns = LoopWatch(settings.wedged_after_s)
    loop.spawn(turns.turn())
    plugins: dict[str, Sink] = discover(workers.sinks)
    loop.spawn(SinkCards(redis, {name: card(sink, plugins, os.environ) for name, sink in sinks.items()}).keep())
    watchdog = _watchdog(settings, courier, lease)
    watchdog.start()
    if settings.callbacks_metrics_port:
        serve_operations(
            settings.callbacks_metrics_host,
            settings.callbacks_metrics_port,
            metrics.registry,
            lambda: turns.trouble() or watchdog.trouble(),
        )
    app = make_callback_app(settings, courier, worker)
    celery = app.Worker(
        hostname=worker,
        pool_cls=CallbackPool,
        concurrency=settings.callback_threads,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        quiet=True,
    )
    log.info("worker_ready", worker=worker, threads=settings.callback_threads)
    try:
        celery.start()
    finally:
        watchdog.stop()
        loop.call(lease.give_back())
        courier.close()
        loop.stop()
    sys.stdout.flush()
    # A thread that still waits for a receiver would hold the process up; its event's lease ends without it.
    os._exit(celery.exitcode or 0)


def _watchdog(settings: CallbackSettings, courier: Courier, lease: Lease) -> Watchdog:
    """Who sees that events wait and none is carried."""

    def activity() -> Activity:
        return Activity(
            moves=courier.moves,
            held=courier.held,
            queues=(CALLBACK_QUEUE,),
            # A receiver may be slow; after its lease an event is given to another.
            allowed_s=settings.webhook_lease_s if courier.held else 0.0,
            is_able=lease.reachable,
        )

    redis = connect(settings.redis_url.get_secret_value(), socket_timeout=5.0, socket_connect_timeout=2.0)
    return Watchdog(redis, activity, wedged_after_s=settings.wedged_after_s)


def _give_up(reason: str, status: int) -> int:
    log.error("worker_not_started", reason=reason)
    return status


if __name__ == "__main__":
    sys.exit(main())
