"""First parts of the paths of bulk work."""

#: Documents in: a job, or their vectors on the same connection.
INGEST_PATH = "/v1/ingest"
#: What needs a job runner.
JOB_PATHS = (
    *("/v1/jobs", "/v1/files", "/v1/batches", "/v1/webhook_endpoints", "/v1/webhook_event_types"),
    *("/openai/v1/files", "/openai/v1/batches", "/files", "/batches"),
)


def is_bulk(path: str) -> bool:
    """Whether a path, without a slash at its end, is one of bulk work."""
    return any(path == first or path.startswith(f"{first}/") for first in (INGEST_PATH, *JOB_PATHS))
