"""`python -m tests.chaos`: parts are killed and stopped, and Redis goes away in every way, while a ledger is kept.

30 interactive requests per second and one bulk job after the other go on meanwhile. Every request must be answered exactly
once, rightly or with a clear error, within its deadline and a second; every document must be there exactly once.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.chaos import report
from tests.chaos.bulk import BulkWork, CallbackTally
from tests.chaos.faults import Faults
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.schedule import make_schedule
from tests.chaos.texts import reference_vectors
from tests.helpers.service import Service
from tests.helpers.tcp_proxy import TcpProxy
from tests.helpers.valkey import ValkeyServer

#: How long the last job may take after the end, in seconds.
_LAST_JOB_S = 90.0


def main() -> int:
    """Run it; the exit status is not 0 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long")
    parser.add_argument("--seed", type=int, default=6, help="of the schedule and of the requests; repeats a run")
    parser.add_argument("--json", type=Path, help="file for the results, for programs")
    parser.add_argument("--log", type=Path, help="file for the service's log; else thrown away")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-chaos-") as name:
        run = _run(Path(name), options)
    print(report.text(run))  # noqa: T201 (a command line)
    if options.json is not None:
        options.json.write_text(json.dumps(report.summary(run), indent=2) + "\n")
    return int(report.is_violated(run))


def _run(folder: Path, options: argparse.Namespace) -> report.Run:
    valkey = ValkeyServer(folder)
    proxy = TcpProxy(valkey.port)
    callbacks = CallbackTally()
    service = Service(
        folder,
        {
            "MILLRACE_REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
            "MILLRACE_WEBHOOK_HOSTS": "127.0.0.1",
            "MILLRACE_WEBHOOK_RETRIES_S": "0.5,1,2,4,8,8,8,8,8,8",
            "MILLRACE_JOB_SEGMENT_DOCUMENTS": "128",
            "MILLRACE_ACCESS_LOG": "false",
        },
    )
    valkey.start()
    try:
        proxy.start()
        threading.Thread(target=callbacks.serve_forever, daemon=True).start()
        service.start()
        return _shake(service, Faults(service, valkey, proxy), callbacks, options)
    finally:
        service.stop()
        if options.log is not None:
            options.log.write_text(service.log())
        callbacks.shutdown()
        callbacks.server_close()
        proxy.stop()
        valkey.stop()


def _shake(service: Service, faults: Faults, callbacks: CallbackTally, options: argparse.Namespace) -> report.Run:
    """The run itself, on a service that is up."""
    seconds = options.minutes * 60
    with service.client() as client:
        vectors = reference_vectors(client)
    ledger = Ledger()
    bulk = BulkWork(service, callbacks)
    load = Load(service.port, ledger, vectors, seed=options.seed)
    began_at = time.monotonic()
    bulk.start()

    async def everything() -> None:
        events = make_schedule(options.seed, seconds)
        await asyncio.gather(load.run(seconds), asyncio.to_thread(faults.run, events))

    asyncio.run(everything())
    bulk.finish(_LAST_JOB_S)
    return report.Run(
        seed=options.seed,
        minutes=options.minutes,
        began_at=began_at,
        ledger=ledger,
        outages=faults.outages,
        faults=faults.applied,
        jobs=bulk.verdicts(vectors),
        own_deaths=[line for line in service.log().splitlines() if "part_died" in line and "status=-9" not in line],
    )


if __name__ == "__main__":
    sys.exit(main())
