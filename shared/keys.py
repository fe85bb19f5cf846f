"""Every Redis key that Millrace writes, beside the queues themselves (`shared.queues`).

| key | type | lives | written by | read by |
|---|---|---|---|---|
| `celery-task-meta-<task>` | string and channel | `result_ttl_s` | worker (Celery's result backend format) | gateway |
| `millrace:leases` | sorted set, worker → lease end in ms of the server's clock | until recovered | worker | gateway, worker |
| `millrace:worker:<worker>` | string, JSON `WorkerCard` | 10 s, renewed | worker | gateway |
| `millrace:unacked:<worker>` | hash, delivery tag → message | until acknowledged or recovered | kombu in the worker | gateway, worker |
| `millrace:unacked-index:<worker>` | sorted set, delivery tag → time | as above | kombu in the worker | kombu |
| `millrace:unacked-mutex:<worker>` | string | kombu's own | kombu in the worker | kombu |
| `millrace:deliveries:<task>` | counter of worker deaths | 1 h | `recover.lua` | `recover.lua` |
| `millrace:dead` | list of JSON, the newest 1,000 | kept | `recover.lua`'s caller | operator |
"""

LEASES = "millrace:leases"
DEAD_LETTERS = "millrace:dead"
#: How many dead letters are kept.
DEAD_LETTERS_KEPT = 1000

UNACKED_PREFIX = "millrace:unacked:"
UNACKED_INDEX_PREFIX = "millrace:unacked-index:"
DELIVERIES_PREFIX = "millrace:deliveries:"


def unacked(worker: str) -> str:
    """Hash of the messages that a worker has taken and not yet acknowledged."""
    return f"{UNACKED_PREFIX}{worker}"


def unacked_index(worker: str) -> str:
    """Sorted set of the same messages' delivery tags."""
    return f"{UNACKED_INDEX_PREFIX}{worker}"


def unacked_mutex(worker: str) -> str:
    """kombu's own lock for its visibility sweep over that worker's messages."""
    return f"millrace:unacked-mutex:{worker}"


def worker_card(worker: str) -> str:
    """The worker's heartbeat."""
    return f"millrace:worker:{worker}"


def result(task_id: str) -> str:
    """Celery's result key, which is also the channel that the result is published on."""
    return f"celery-task-meta-{task_id}"


def result_pattern(gateway: str) -> str:
    """Pattern over the result channels of all tasks of one gateway process (task ids start with its id)."""
    return f"celery-task-meta-{gateway}-*"
