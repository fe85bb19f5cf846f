"""`python -m workers`: one worker process on one device."""

import os
import sys
import warnings

from celery.exceptions import SecurityWarning
from redis.exceptions import RedisError

from shared.logging import configure_logging, get_logger
from shared.model_config import ConfigurationError
from shared.redis_address import without_password
from shared.settings import load_or_exit
from workers.app import make_worker_app
from workers.engine_process import EngineStartError
from workers.pool import BatchPool
from workers.runtime import Runtime
from workers.settings import WorkerSettings

log = get_logger("millrace.worker")


def main() -> int:
    """Load the models, then consume until SIGTERM; accepted work is finished within the drain time."""
    settings = load_or_exit(WorkerSettings)
    configure_logging(settings.log_level, settings.log_format)
    # Celery warns root against pickle, which this worker does not accept; in a container root is the usual user.
    warnings.simplefilter("ignore", SecurityWarning)
    # A tokenizer with a thread pool would take the cores that the forward pass is using.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        runtime = Runtime(settings)
    except ConfigurationError as err:
        log.error("worker_not_started", reason=str(err))  # noqa: TRY400 - the sentence says it all
        return os.EX_CONFIG
    # The engine imports torch and loads the weights while this process connects and sets Celery up.
    runtime.engine.launch()
    try:
        runtime.redis().ping()
        app = make_worker_app(runtime)
        runtime.load()
    except EngineStartError as err:
        return _give_up(runtime, str(err), os.EX_CONFIG)
    except (RedisError, OSError) as err:
        address = without_password(settings.redis_url.get_secret_value())
        return _give_up(runtime, f"Redis at {address} cannot be used: {err}", os.EX_UNAVAILABLE)
    worker = app.Worker(
        hostname=runtime.worker,
        pool_cls=BatchPool,
        concurrency=1,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        quiet=True,
    )
    try:
        worker.start()
    finally:
        runtime.close()
    return worker.exitcode or 0


def _give_up(runtime: Runtime, reason: str, status: int) -> int:
    runtime.engine.stop()
    log.error("worker_not_started", reason=reason)
    return status


if __name__ == "__main__":
    sys.exit(main())
