"""`millrace worker`: a worker process on each device of this machine, under one supervisor."""

import asyncio
import os
import sys
from collections.abc import Sequence

from millrace.pinned_workers import pinned_workers, worker_parts
from millrace.ports import check_ports
from millrace.processes import Part
from millrace.supervision import STOP_SLACK_S, CannotServe, Supervision
from shared.logging import configure_logging, get_logger
from shared.model_config import ConfigurationError
from workers.settings import WorkerSettings

log = get_logger("millrace.supervisor")

#: How much longer than loading its models a worker may take until it says that it is well, in seconds.
_START_SLACK_S = 60.0


def run_workers(settings: WorkerSettings) -> int:
    """Run the workers until SIGINT or SIGTERM.

    Returns:
        The exit status: 0 after a clean stop, EX_CONFIG for what starting again would not mend.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        workers = pinned_workers(settings)
        check_ports((settings.worker_metrics_host, one.metrics_port, "WORKER_METRICS_PORT") for one in workers)
        # Who is alone needs no prefix that tells whose line it is.
        plain_log = settings.log_format == "json" or len(workers) == 1
        asyncio.run(_supervise(worker_parts(workers, settings, {}, plain_log=plain_log), settings))
    except (CannotServe, ConfigurationError) as err:
        sys.stderr.write(f"millrace: {err}\n")
        return os.EX_CONFIG
    return 0


async def _supervise(parts: Sequence[Part], settings: WorkerSettings) -> None:
    supervision = Supervision(
        wedged_after_s=settings.wedged_after_s, start_timeout_s=settings.engine_start_timeout_s + _START_SLACK_S
    )
    supervision.stop_on_signals()
    try:
        for part in parts:
            await supervision.start(part)
        supervision.watch()
        await supervision.stopping.wait()
    finally:
        supervision.unwatch()
        log.info("stopping", drain_s=settings.drain_s)
        await asyncio.gather(*(part.stop(settings.drain_s + STOP_SLACK_S) for part in parts))
        log.info("stopped")
    supervision.refuse_failure()
