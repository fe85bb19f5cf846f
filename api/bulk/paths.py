"""First parts of the paths of bulk work."""

#: Documents in: a job, or their vectors on the same connection.
INGEST_PATH = "/v1/ingest"
#: Where clients look for what is OpenAI's, as they do for embeddings; the first is the canonical one.
PREFIXES = ("/v1", "/openai/v1", "")
#: What needs a job runner.
JOB_PATHS = (
    "/v1/jobs",
    *(
        f"{prefix}/{name}"
        for name in ("files", "batches", "webhook_endpoints", "webhook_event_types")
        for prefix in PREFIXES
    ),
)


def is_bulk(path: str) -> bool:
    """Whether a path, without a slash at its end, is one of bulk work."""
    return any(path == first or path.startswith(f"{first}/") for first in (INGEST_PATH, *JOB_PATHS))
