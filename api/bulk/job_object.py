"""A job as its callers see it."""

import time
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.bulk.pages import Page
from api.bulk.pump import MOST_DEAD
from shared.bulk.events import mark_of_end
from shared.bulk.jobs import Job, State
from shared.bulk.table import JobTable


class JobCounts(BaseModel):
    """Documents of a job."""

    received: int = Field(description="Safely in the store.")
    completed: int = Field(description="Have vectors.")
    failed: int = Field(description="Have an error in the place of vectors.")


class JobDeleted(BaseModel):
    """What is said of a job that has been deleted."""

    id: str
    object: Literal["job"] = "job"
    deleted: Literal[True] = True


class JobCallbacks(BaseModel):
    """What goes out while a job runs."""

    endpoint: str | None = Field(description="Id of the webhook endpoint.")
    sink: str | None
    delivered: int
    pending: int = Field(description="To be sent; of a job that has ended, 0 means that nothing more is.")
    dead: int = Field(description="Given up; `GET /v1/jobs/{id}/callbacks` shows them.")
    stopped: str | None = Field(description="Why no more are sent; null while they are.")


class JobObject(BaseModel):
    """A job. Times are Unix seconds."""

    id: str
    object: Literal["job"] = "job"
    kind: Literal["ingest", "batch"]
    status: State
    model: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    expires_at: int = Field(description="When it is given up; of a job that has ended: when its results are deleted.")
    counts: JobCounts
    available: int = Field(description="Documents from the first one on whose results can be read without a gap.")
    input_complete: bool = Field(description="Whether all documents are there.")
    tokens: int
    rate: float = Field(description="Documents per second, lately.")
    eta_s: int | None = Field(description="Seconds until it has finished; null while that is not known.")
    errors: list[dict[str, Any]] = Field(
        description="Why it failed: `code`, `message`, and `param`, `line` where known."
    )
    metadata: dict[str, Any] | None
    callbacks: JobCallbacks
    results_url: str


class JobList(Page[JobObject]):
    """Response of `GET /v1/jobs`."""


async def job_object(job: Job, table: JobTable, public_url: str) -> JobObject:
    """The object.

    Args:
        job: As it stands.
        table: Knows which of its segments are done.
        public_url: What stands before the paths of this service.
    """
    spec = job.spec
    ended_at = job.entered_at.get(str(job.state)) if job.state.is_final else None
    begun = [job.entered_at[state] for state in (State.RECEIVING, State.IN_PROGRESS) if state in job.entered_at]
    return JobObject(
        id=job.id,
        kind=spec.kind.value,
        status=job.state,
        model=spec.model,
        created_at=int(spec.created_at),
        started_at=int(min(begun)) if begun else None,
        finished_at=None if ended_at is None else int(ended_at),
        expires_at=int(spec.expires_at if ended_at is None else ended_at + spec.results_ttl_s),
        counts=JobCounts(received=job.received, completed=job.completed, failed=job.failed),
        available=await available(job, table),
        input_complete=job.input_complete,
        tokens=job.tokens,
        rate=round(_rate(job), 2),
        eta_s=_eta_s(job),
        errors=[error.model_dump(exclude_none=True) for error in job.errors],
        metadata=spec.metadata,
        callbacks=JobCallbacks(
            endpoint=spec.delivery.endpoint,
            sink=spec.delivery.sink,
            delivered=job.callbacks_delivered,
            pending=pending_callbacks(job),
            dead=job.callbacks_dead,
            stopped=job.callbacks_stopped or None,
        ),
        results_url=f"{public_url.rstrip('/')}/v1/jobs/{job.id}/results",
    )


async def available(job: Job, table: JobTable) -> int:
    """Documents from the first one on that all have results."""
    done = await table.done_before(job)
    return (await table.segment(job.id, done - 1)).end if done else 0


def pending_callbacks(job: Job) -> int:
    """Events that are still to be sent; of a job that has ended, one more until the pump has made the last of them."""
    delivery = job.spec.delivery
    # A webhook that wants nothing any more is no reason to stop writing to a sink.
    stopped = job.callbacks_stopped and (delivery.sink is None or job.callbacks_dead >= MOST_DEAD)
    are_more_made = delivery.has_receiver and not stopped and job.callbacks_final != mark_of_end(job)
    return job.callbacks_pending + (job.state.is_final and are_more_made)


def _rate(job: Job) -> float:
    """Documents per second; less than the last average where nothing has come for longer than a segment should take."""
    silent_s = max(1e-3, time.time() - job.rated_at)
    return min(job.rate, job.received / max(1, job.segments) / silent_s) if job.state.runs else job.rate


def _eta_s(job: Job) -> int | None:
    rate = _rate(job)
    if not job.input_complete or not job.state.runs or rate <= 0:
        return None
    return round((job.received - job.completed - job.failed) / rate)
