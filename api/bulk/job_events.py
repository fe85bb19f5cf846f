"""Progress of a job as server-sent events: the job object whenever it has changed, until the job has ended."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any

from redis.exceptions import RedisError

from api import wire
from api.bulk.job_object import job_object
from shared.bulk.table import JobTable
from shared.errors import NotStored
from shared.logging import get_logger

log = get_logger("millrace.bulk")

#: How often the job is looked at, in seconds.
_POLL_S = 1.0
#: Silence after which a comment is sent, in seconds: what stands between may close a silent connection.
_HEARTBEAT_S = 10.0
#: How long a client waits before it connects again, in milliseconds.
_RETRY_MS = 2000


def event_id(body: bytes) -> str:
    """What a state of the job is called: a client that connects again says which it saw last."""
    return hashlib.sha256(body).hexdigest()[:16]


async def events(table: JobTable, job_id: str, public_url: str, *, last_id: str | None) -> AsyncIterator[bytes]:
    """The events of a job.

    Args:
        table: The jobs.
        job_id: One of them.
        public_url: What stands before the paths of this service.
        last_id: Of the event that the client saw last.
    """
    yield b"retry: %d\n\n" % _RETRY_MS
    spoke_at = time.monotonic()
    while True:
        try:
            job = await table.get(job_id)
            body = wire.dumps((await job_object(job, table, public_url)).model_dump(mode="json"))
        except NotStored as err:
            yield _event("end", "deleted", wire.dumps(wire.nested_error(err)))
            return
        except (RedisError, OSError):
            log.warning("progress_unknown", job=job_id)
        else:
            if (own_id := event_id(body)) != last_id or job.state.is_final:
                yield _event("end" if job.state.is_final else "progress", own_id, body)
                last_id, spoke_at = own_id, time.monotonic()
            if job.state.is_final:
                return
        await asyncio.sleep(_POLL_S)
        if time.monotonic() - spoke_at >= _HEARTBEAT_S:
            yield b": still here\n\n"
            spoke_at = time.monotonic()


def _event(name: str, own_id: str, body: bytes) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), own_id.encode(), body)


def headers() -> dict[str, Any]:
    """Headers of such an answer: nobody keeps it or gathers it on its way."""
    return {"cache-control": "no-store", "x-accel-buffering": "no"}
