"""`python -m api.bulk`: the job runner as a process."""

import asyncio
import os
import signal
import sys

import uvloop

from api.backlog import RUNNER
from api.bulk.embedding import Embedding
from api.bulk.files import FileTable
from api.bulk.finishing import Finishing
from api.bulk.pump import CallbackPump
from api.bulk.runner import Runner
from api.bulk.segment_runs import SegmentRuns
from api.core import Core
from api.settings import RunnerSettings
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.logging import configure_logging, get_logger
from shared.loop_watch import LoopWatch
from shared.metrics import Metrics, Owner
from shared.model_config import ConfigurationError
from shared.operations import serve_operations
from shared.settings import load_or_exit

log = get_logger("millrace.jobs")

#: What is under way is bounded by tokens, not by documents.
_MAX_PENDING_ITEMS = 1 << 40


def main() -> None:
    """Read the environment and run jobs until SIGTERM; segments under way are finished within the drain time."""
    settings = load_or_exit(RunnerSettings)
    configure_logging(settings.log_level, settings.log_format)
    try:
        uvloop.run(_run(settings))
    except ConfigurationError as err:
        sys.stderr.write(f"millrace: {err}\n")
        raise SystemExit(os.EX_CONFIG) from err


async def _run(settings: RunnerSettings) -> None:
    metrics = Metrics(Owner.GATEWAY, Owner.RUNNER)
    loop = LoopWatch(settings.wedged_after_s)
    if settings.runner_metrics_port:
        serve_operations(settings.runner_metrics_host, settings.runner_metrics_port, metrics.registry, loop.trouble)
    core = Core(settings, metrics, name=RUNNER, max_pending_items=_MAX_PENDING_ITEMS)
    table, store = JobTable(core.redis), Store(settings.store_url())
    embedding = Embedding(core.dispatcher, metrics, core.usage)
    runs = SegmentRuns(embedding, core.endpoint, core.catalog, core.contenders, core.register)
    finishing = Finishing(table, FileTable(core.redis), store)
    runner = Runner(core, table, store, runs, finishing, metrics, settings)
    pump = CallbackPump(core.redis, table, settings)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with core.running(runner.run(), runner.renew(), runner.clean(), pump.run(), loop.turn()):
        log.info("runner_ready", store=settings.store_url())
        await stopping.wait()
        log.info("runner_draining")
        await runner.drain(settings.drain_s)


if __name__ == "__main__":
    main()
