"""Leases: how a dead worker's messages come back in seconds instead of after the transport's visibility timeout.

A worker renews its lease in one sorted set. Whoever is alive, gateway or worker, watches the set; when a lease has ended,
`recover.lua` moves that worker's unacknowledged messages back to the head of their queues in one atomic step, marked as
suspects: one of them may have killed it. Workers run suspects request by request (`workers.suspects`), so that the next
death tells which it was.
"""

from collections.abc import Mapping

from shared import keys

#: How long a lease lasts without renewal, in seconds.
LEASE_TTL_S = 2.5
#: How often a worker renews its lease, in seconds.
RENEW_INTERVAL_S = 0.5
#: Time for the commands of a renewal, in seconds: a connection that is dead is replaced before the lease ends.
RENEW_TIMEOUT_S = 1.5
#: How often gateways and workers look for ended leases, in seconds.
WATCH_INTERVAL_S = 0.5
#: How long a watcher must itself have seen a lease ended before it acts. After an outage of Redis every lease is past its
#: end; this lets the living renew before their work is taken from them.
GRACE_S = 1.0
#: Worker deaths after which a task is a dead letter.
MAX_DELIVERIES = 3
#: What the ids of callback workers begin with; they have leases and no cards.
CALLBACK_WORKERS = "callbacks@"
#: `missing.lua` searches queues of at most this many messages.
SEARCH_LIMIT = 5000


def renew_call(worker: str) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of `renew.lua`."""
    return [keys.LEASES], [worker, int(LEASE_TTL_S * 1000)]


def recover_call(worker: str) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of `recover.lua`."""
    isolates = int(not worker.startswith(CALLBACK_WORKERS))
    return (
        [keys.LEASES, keys.LOST_WORKERS, keys.running(worker)],
        [worker, keys.UNACKED_PREFIX, keys.DELIVERIES_PREFIX, MAX_DELIVERIES, isolates],
    )


def missing_call(queue: str, task_ids: list[str]) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of `missing.lua`."""
    return [queue, keys.LEASES], [keys.UNACKED_PREFIX, SEARCH_LIMIT, *task_ids]


class LeaseWatch:
    """Decides, from one observer's repeated looks at the leases, which workers are dead. Pure: clocks are arguments."""

    def __init__(self) -> None:
        self._ended_since: dict[str, float] = {}

    def observe(self, lease_ends: Mapping[str, float], server_now: float, now: float) -> list[str]:
        """Record one look.

        Args:
            lease_ends: Worker id to the end of its lease, on the server's clock.
            server_now: The server's time, same unit as `lease_ends`.
            now: This process's monotonic clock, in seconds.

        Returns:
            Workers whose lease has been seen ended for at least `GRACE_S`.
        """
        ended = {worker for worker, end in lease_ends.items() if end <= server_now}
        self._ended_since = {worker: self._ended_since.get(worker, now) for worker in ended}
        return [worker for worker, since in self._ended_since.items() if now - since >= GRACE_S]

    def forget(self) -> None:
        """Start over; call it when Redis could not be reached, since nobody could renew either."""
        self._ended_since.clear()
