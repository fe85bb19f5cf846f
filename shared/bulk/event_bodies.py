"""Bodies of callbacks, as JSON or msgpack: a segment's results, how a job ended, OpenAI's batch events.

One body verifies with `openai` and with `standardwebhooks`: it carries `created_at` for the one and `timestamp` for the
other, and is signed as it is sent.
"""

import gzip
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack
import orjson

from shared.bulk.events import Event, EventType
from shared.bulk.jobs import Job, Kind, VectorEncoding
from shared.bulk.results import SegmentResults
from shared.bulk.table import Segment

#: Of zlib: most of what the highest level saves, for a third of its time.
_COMPRESSION = 3


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent."""

    content: bytes
    content_type: str
    compressed: bool = False

    def headers(self) -> dict[str, str]:
        """What says how it is to be read."""
        return {"content-type": self.content_type, **({"content-encoding": "gzip"} if self.compressed else {})}


def write_body(value: dict[str, Any], encoding: VectorEncoding, *, compress: bool) -> Body:
    """An event as bytes: the same ones each time.

    Args:
        value: The event.
        encoding: How its vectors are written down.
        compress: Whether it is to be compressed.
    """
    if encoding == "binary":
        content, content_type = msgpack.packb(value, use_bin_type=True), "application/msgpack"
    else:
        content, content_type = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), "application/json"
    if compress:
        content = gzip.compress(content, _COMPRESSION, mtime=0)
    return Body(content, content_type, compress)


def envelope(event_id: str, kind: EventType, created_at: int, data: dict[str, Any]) -> dict[str, Any]:
    """What every event has."""
    return {
        "id": event_id,
        "object": "event",
        "type": str(kind),
        "created_at": created_at,
        "timestamp": datetime.fromtimestamp(created_at, UTC).isoformat().replace("+00:00", "Z"),
        "data": data,
    }


def results_event(event: Event, job: Job, segment: Segment, results: SegmentResults) -> dict[str, Any]:
    """The event that carries a segment's results."""
    encoding = job.spec.delivery.encoding
    data = {**_about_segment(job, segment), "results": list(results.entries(encoding))}
    width = next((part.output.multivector.width for part in results.parts if part.output.multivector), None)
    if width is not None and encoding != "float":
        data["multivector_width"] = width  # the bytes are its rows, one after the other
    return envelope(event.id, event.type, event.created_at, data)


def reference_event(event: Event, job: Job, segment: Segment, public_url: str) -> dict[str, Any]:
    """The event that says where a segment's results can be read."""
    encoding = job.spec.delivery.encoding
    # Results are read as lines of JSON, which hold no bytes.
    query = f"offset={segment.first}&limit={len(segment)}&encoding={'base64' if encoding == 'binary' else encoding}"
    url = f"{public_url.rstrip('/')}/v1/jobs/{job.id}/results?{query}"
    return envelope(event.id, event.type, event.created_at, {**_about_segment(job, segment), "results_url": url})


def final_event(event: Event, job: Job, public_url: str) -> dict[str, Any]:
    """The event that says how a job ended: thin for a batch, whose clients know what they then ask for."""
    if job.spec.kind is Kind.BATCH:
        return envelope(event.id, event.type, event.created_at, {"id": job.id})
    data = {
        "job_id": job.id,
        "status": event.type.partition(".")[2],
        "model": job.spec.model,
        "counts": {"received": job.received, "completed": job.completed, "failed": job.failed},
        "segments": job.segments,
        "tokens": job.tokens,
        "callbacks": {"delivered": job.callbacks_delivered, "dead": job.callbacks_dead},
        "errors": [error.model_dump(exclude_none=True) for error in job.errors],
        "metadata": job.spec.metadata,
        "results_url": f"{public_url.rstrip('/')}/v1/jobs/{job.id}/results",
    }
    return envelope(event.id, event.type, event.created_at, data)


def sample_event(event_id: str, kind: EventType) -> dict[str, Any]:
    """An event of a type with made-up data, to try an endpoint with."""
    data: dict[str, Any] = {"job_id": "job_sample", "status": kind.partition(".")[2]}
    if kind is EventType.RESULTS:
        sample = {"index": 0, "id": "sample", "embedding": [0.6, 0.8]}
        data = {"job_id": "job_sample", "segment": 0, "offset": 0, "count": 1, "encoding": "float", "results": [sample]}
    elif kind.startswith("batch."):
        data = {"id": "batch_sample"}
    return envelope(event_id, kind, int(time.time()), data)


def _about_segment(job: Job, segment: Segment) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "segment": segment.number,
        "offset": segment.first,
        "count": len(segment),
        "encoding": job.spec.delivery.encoding,
        "precision": str(job.spec.options.precision),
    }
