"""Every Redis key that Millrace writes, beside the queues themselves (`shared.queues`).

| key | type | lives | written by | read by |
|---|---|---|---|---|
| `celery-task-meta-<task>` | string, channel | `result_ttl_s` | worker, in Celery's format | gateway |
| `millrace:leases` | sorted set, worker to lease end (ms, server's clock) | until recovered | worker | both |
| `millrace:worker:<worker>` | string, JSON `WorkerCard` | 10 s, renewed | worker | gateway |
| `millrace:unacked:<worker>` | hash, delivery tag to message | until acknowledged or recovered | worker | both |
| `millrace:deliveries:<task>` | counter of worker deaths | 1 h | `recover.lua` | `recover.lua` |
| `millrace:dead` | list of JSON, the newest 1,000 | kept | `recover.lua` | operator |
"""

LEASES = "millrace:leases"
DEAD_LETTERS = "millrace:dead"
#: How many dead letters are kept.
DEAD_LETTERS_KEPT = 1000

UNACKED_PREFIX = "millrace:unacked:"
DELIVERIES_PREFIX = "millrace:deliveries:"


def unacked(worker: str) -> str:
    """Hash of the messages that a worker has taken and not yet acknowledged."""
    return f"{UNACKED_PREFIX}{worker}"


def unacked_index(worker: str) -> str:
    """Name of kombu's index of the same messages; nothing is written there (see `workers.transport`)."""
    return f"millrace:unacked-index:{worker}"


def worker_card(worker: str) -> str:
    """The worker's heartbeat."""
    return f"millrace:worker:{worker}"


def result(task_id: str) -> str:
    """Celery's result key, which is also the channel that the result is published on."""
    return f"celery-task-meta-{task_id}"


def result_pattern(gateway: str) -> str:
    """Pattern over the result channels of all tasks of one gateway process (task ids start with its id)."""
    return f"celery-task-meta-{gateway}-*"
