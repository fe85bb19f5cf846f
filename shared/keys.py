"""Every Redis key that Millrace writes, beside the queues themselves (`shared.queues`).

| key | type | lives | written by | read by |
|---|---|---|---|---|
| `celery-task-meta-<task>` | string, channel | until received, or `result_ttl_s` | worker, as Celery does | gateway |
| `millrace:leases` | sorted set, worker to lease end (ms, server's clock) | until recovered | worker | both |
| `millrace:worker:<worker>` | string, JSON `WorkerCard` | 10 s, renewed | worker | gateway |
| `millrace:cards` | hash, model to JSON `ModelCard`, the last that a worker showed | kept | worker | gateway, runner |
| `millrace:awake:<model>` | set of processes that were asked for it | 60 s after a request | gateway, runner | KEDA |
| `millrace:backlog` | hash, process to JSON, see `api.backlog` | fields 5 s, renewed | gateway, runner | the same |
| `millrace:unacked:<worker>` | hash, delivery tag to message | until acknowledged or recovered | worker | both |
| `millrace:deliveries:<task>` | counter of worker deaths | 1 h | `recover.lua` | `recover.lua`, gateway |
| `millrace:running:<worker>` | string, delivery tag and position of what it runs alone | 1 h | worker | `recover.lua` |
| `millrace:lost` | counter of workers whose lease ended | kept | `recover.lua` | gateway |
| `millrace:dead:count` | counter of dead letters | kept | both, see `shared.dead_letters` | gateway |
| `millrace:dead` | list of JSON `DeadLetter`, the newest 1,000 | kept | both | operator |
| `millrace:job:<job>` | hash, see `shared.bulk.table` | until the job is deleted | gateway, runner | both |
| `millrace:job:<job>:segments` | string, 16 bytes a segment | as the job | gateway, runner | both |
| `millrace:job:<job>:done` | bitmap of segments | as the job | `complete.lua` | both |
| `millrace:job:<job>:sizes` | string, 16 bytes a segment | as the job | `complete.lua` | gateway |
| `millrace:job:<job>:events` | sorted set, event to creation (Unix s) | as the job | runner, callback worker | both |
| `millrace:job:<job>:delivered` | list of events, newest first | as the job | callback worker | both |
| `millrace:job:<job>:claims` | sorted set, segment to end of claim (ms, server's clock) | while it runs | runner | runner |
| `millrace:jobs` | sorted set, job to creation (Unix s) | kept | gateway | both |
| `millrace:batches` | the same, of batches only | kept | gateway | gateway |
| `millrace:jobs:active` | sorted set, job to minus its priority | until it has finished | gateway | runner |
| `millrace:jobs:delivering` | set of jobs that may have callbacks to send | until they are sent | gateway, runner | runner |
| `millrace:jobs:bytes` | counter of bytes in the store | kept | gateway, runner | gateway |
| `millrace:file:<file>` | string, JSON `FileRecord` | until deleted or expired | gateway, runner | both |
| `millrace:files` | sorted set, file to creation (Unix s) | kept | gateway, runner | both |
| `millrace:webhook:<endpoint>` | string, JSON `WebhookEndpoint` | until deleted | gateway | both |
| `millrace:webhooks` | sorted set, endpoint to creation (Unix s) | kept | gateway | gateway |
| `millrace:sinks` | hash, sink to JSON `SinkCard` | 60 s, renewed | callback worker | gateway |
| `<index>:of:<tenant>` | a tenant's part of jobs, batches, files or webhooks | kept | gateway, runner | gateway |
| `millrace:idempotency:<tenant><route>:<key>` | string, JSON | 24 h | gateway | gateway |
| `millrace:limits:<limit>` | string, counter of a window | two intervals | gateway | gateway |
| `millrace:places:<tenant>` | sorted set, request under way to end of lease (ms) | 15 s, renewed | gateway | gateway |
| `millrace:usage:<tenant>:<day>` | hash, model and what to number | `usage_ttl_s` after its last change | both | gateway |
| `millrace:usage:added:<mark>` | string, mark of a batch of counts | 1 h | both | `add_usage.lua` |
| `millrace:event:<event>` | hash, see `shared.bulk.event_table` | 7 days after it ended | runner, callback worker | both |
| `millrace:events:due:<lane>` | sorted set, event to due time (ms) | until sent | both | runner |
| `millrace:events:out:<lane>` | sorted set, event to end of lease (ms) | until sent | both | runner |
| `millrace:events:targets` | sorted set, lane to when to look at it (ms) | until sent | both | runner |
| `millrace:events:pace:<lane>` | string, `prompt` or `slow`, see `shared.bulk.lanes` | 1 h | callback worker | runner |
| `millrace:events:new` | sorted set, event that is out to a new receiver to end of lease (ms) | until sent | both | runner |
| `millrace:events:slow` | the same of slow receivers | until sent | both | runner |
"""

LEASES = "millrace:leases"
MODEL_CARDS = "millrace:cards"
BACKLOG = "millrace:backlog"
LOST_WORKERS = "millrace:lost"
DEAD_LETTERS = "millrace:dead"
DEAD_LETTERS_EVER = "millrace:dead:count"
#: How many dead letters are kept.
DEAD_LETTERS_KEPT = 1000

#: How long a model is awake after its last request, in seconds: longer than any scaler's polling interval.
AWAKE_TTL_S = 60

UNACKED_PREFIX = "millrace:unacked:"
DELIVERIES_PREFIX = "millrace:deliveries:"


def unacked(worker: str) -> str:
    """Hash of the messages that a worker has taken and not yet acknowledged."""
    return f"{UNACKED_PREFIX}{worker}"


def unacked_index(worker: str) -> str:
    """Name of kombu's index of the same messages; nothing is written there (see `workers.transport`)."""
    return f"millrace:unacked-index:{worker}"


def deliveries(task_id: str) -> str:
    """How often a worker died that may have died of this task."""
    return f"{DELIVERIES_PREFIX}{task_id}"


def running(worker: str) -> str:
    """Which request of its suspects a worker runs, or ran last (see `workers.suspects`)."""
    return f"millrace:running:{worker}"


def worker_card(worker: str) -> str:
    """The worker's heartbeat."""
    return f"millrace:worker:{worker}"


def awake(model: str) -> str:
    """There while a model is asked for anything: its queue may be empty whenever a scaler looks."""
    return f"millrace:awake:{model}"


def result(task_id: str) -> str:
    """Celery's result key, which is also the channel that the result is published on."""
    return f"celery-task-meta-{task_id}"


def result_pattern(gateway: str) -> str:
    """Pattern over the result channels of all tasks of one gateway process (task ids start with its id)."""
    return f"celery-task-meta-{gateway}-*"


JOBS = "millrace:jobs"
BATCHES = "millrace:batches"
ACTIVE_JOBS = "millrace:jobs:active"
DELIVERING_JOBS = "millrace:jobs:delivering"
STORED_BYTES = "millrace:jobs:bytes"
FILES = "millrace:files"
WEBHOOKS = "millrace:webhooks"
SINKS = "millrace:sinks"
EVENT_LANES = "millrace:events:targets"
#: Events that are out to receivers that are new, and to slow ones.
EVENTS_TO_NEW, EVENTS_TO_SLOW = "millrace:events:new", "millrace:events:slow"


def job(job_id: str) -> str:
    """Hash of a job's state and counters."""
    return f"millrace:job:{job_id}"


def job_segments(job_id: str) -> str:
    """Where each segment ends, and who wrote it."""
    return f"millrace:job:{job_id}:segments"


def job_done(job_id: str) -> str:
    """Bitmap of the segments whose results are stored."""
    return f"millrace:job:{job_id}:done"


def job_sizes(job_id: str) -> str:
    """Bytes of each segment's result and error lines."""
    return f"millrace:job:{job_id}:sizes"


def job_claims(job_id: str) -> str:
    """The segments that are being run."""
    return f"millrace:job:{job_id}:claims"


def job_events(job_id: str) -> str:
    """Its events that are known: all that are pending or dead, and the last that were delivered."""
    return f"millrace:job:{job_id}:events"


def job_delivered(job_id: str) -> str:
    """The last of its events that were delivered."""
    return f"millrace:job:{job_id}:delivered"


def file(file_id: str) -> str:
    """Record of a file."""
    return f"millrace:file:{file_id}"


def webhook(endpoint_id: str) -> str:
    """Record of a webhook endpoint."""
    return f"millrace:webhook:{endpoint_id}"


def owned(index: str, tenant: str | None) -> str:
    """The part of an index that is a tenant's; all of it for None."""
    return index if tenant is None else f"{index}:of:{tenant}"


def idempotency(route: str, key: str, tenant: str | None = None) -> str:
    """What was answered to a request with an idempotency key. A route begins with a slash, a tenant's name does not."""
    return f"millrace:idempotency:{tenant or ''}{route}:{key}"


#: The `limits` library writes its keys below this.
LIMITS_PREFIX = "millrace:limits"


def places(tenant: str) -> str:
    """The requests of a tenant that are under way."""
    return f"millrace:places:{tenant}"


def usage_mark(mark: str) -> str:
    """What says that a batch of counts has been added."""
    return f"millrace:usage:added:{mark}"


def usage(tenant: str, day: str) -> str:
    """What a tenant has used on a day, such as 2026-11-28."""
    return f"millrace:usage:{tenant}:{day}"


EVENT_PREFIX = "millrace:event:"
EVENTS_DUE_PREFIX = "millrace:events:due:"
EVENTS_OUT_PREFIX = "millrace:events:out:"


def event(event_id: str) -> str:
    """State and attempts of an event's delivery."""
    return f"{EVENT_PREFIX}{event_id}"


def events_due(lane: str) -> str:
    """Events that wait for their time."""
    return f"{EVENTS_DUE_PREFIX}{lane}"


def events_out(lane: str) -> str:
    """Events that are with a callback worker."""
    return f"{EVENTS_OUT_PREFIX}{lane}"


def events_pace(lane: str) -> str:
    """How soon its receiver answers."""
    return f"millrace:events:pace:{lane}"
