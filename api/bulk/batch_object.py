"""A batch as OpenAI shows it."""

from typing import Any, Literal

from pydantic import BaseModel

from api.bulk.pages import Page
from shared.bulk.jobs import Job, JobError, State


class BatchErrors(BaseModel):
    """What is wrong with a batch as a whole."""

    object: Literal["list"] = "list"
    data: list[JobError]


class RequestCounts(BaseModel):
    """How far a batch is, in lines."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(BaseModel):
    """Nothing is cached."""

    cached_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """Nothing is generated."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens that the models have read so far."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class Batch(BaseModel):
    """A batch, in OpenAI's words; times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str | None
    model: str | None
    errors: BatchErrors | None
    input_file_id: str | None
    completion_window: str | None
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, Any] | None
    #: Beyond OpenAI's: batches of a higher priority go first.
    priority: int


class BatchList(Page[Batch]):
    """Response of `GET /v1/batches`."""


def batch_object(job: Job) -> Batch:
    """A job as the batch that it is."""
    spec = job.spec

    def at(state: State) -> int | None:
        entered_at = job.entered_at.get(str(state))
        return None if entered_at is None else int(entered_at)

    model = spec.model or spec.request_params.get("model")
    return Batch(
        id=job.id,
        endpoint=spec.endpoint,
        model=model if isinstance(model, str) else None,
        errors=BatchErrors(data=job.errors) if job.errors else None,
        input_file_id=spec.input_file_id,
        completion_window=spec.completion_window,
        status=str(job.state),
        output_file_id=job.output_file_id,
        error_file_id=job.error_file_id,
        created_at=int(spec.created_at),
        in_progress_at=at(State.IN_PROGRESS),
        expires_at=int(spec.expires_at),
        finalizing_at=at(State.FINALIZING),
        completed_at=at(State.COMPLETED),
        failed_at=at(State.FAILED),
        expired_at=at(State.EXPIRED),
        cancelling_at=at(State.CANCELLING),
        cancelled_at=at(State.CANCELLED),
        request_counts=RequestCounts(total=job.received, completed=job.completed, failed=job.failed),
        usage=BatchUsage(input_tokens=job.tokens, total_tokens=job.tokens),
        metadata=spec.metadata,
        priority=spec.priority,
    )
