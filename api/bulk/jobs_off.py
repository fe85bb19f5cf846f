"""A gateway beside which no job runner runs: what would wait for one for ever is refused instead."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.bulk.answers import answering
from api.bulk.paths import INGEST_PATH, JOB_PATHS
from shared.errors import JobsOff

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def jobs_off() -> JobsOff:
    """What a request for a job is answered with."""
    return JobsOff(
        "this deployment takes no bulk jobs, files and batches (MILLRACE_JOBS is false); "
        f"{INGEST_PATH} with `accept: application/x-ndjson` answers on the same connection"
    )


def add_refusals(app: FastAPI) -> None:
    """Answer so at every path that needs a job runner."""

    async def refuse(_: Request) -> Response:
        raise jobs_off()

    for path in JOB_PATHS:
        for each in (path, f"{path}/{{rest:path}}"):
            app.add_api_route(each, answering(refuse), methods=_METHODS, include_in_schema=False, response_model=None)
