"""The stock Redis transport of kombu 5.7 with three changes; keys and messages stay kombu's own.

1. *Lanes can be closed.* A lane that holds its share is left out of the next BRPOP, so bulk work never fills the worker's
   buffer (kombu has one prefetch per channel; with 512 bulk messages prefetched an interactive request waited 251 ms).
2. *Acknowledgements that the pool has already written are only noted.* The pool removes a message from the unacked hash
   in the same round trip that stores its result, through a client that outlives this channel.
3. *A lost connection restores nothing.* Stock kombu pushes unacknowledged messages back when a channel closes, and when
   Redis is what went away it dies doing so ('NoneType' object has no attribute 'hostname', on any pool but solo). The
   pool still works on those messages and answers them; should this process die, its lease ends and they are recovered.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as stock
from kombu.utils.scheduling import priority_cycle

#: BRPOP's patience in seconds while a lane is closed: how long a reopened lane may go unnoticed.
_PATIENCE_S = 0.05


class Flow:
    """What pool and transport of this process tell each other."""

    def __init__(self) -> None:
        #: Queues that must not be consumed from right now.
        self.closed: frozenset[str] = frozenset()
        #: Delivery tags that the pool has removed from the unacked hash.
        self.settled: set[str] = set()
        #: Whether closing a channel puts its unacknowledged messages back: only when the worker stops.
        self.restore_on_close = False


#: One per process: kombu builds channels by itself and leaves no way to hand them anything.
FLOW = Flow()


class OpenLanes(priority_cycle):  # type: ignore[misc]
    """Queues in declared order, interactive first, without the closed ones."""

    def consume(self, n: int) -> list[str]:
        """The queues of the next BRPOP."""
        return [queue for queue in super().consume(n) if queue not in FLOW.closed]


class QoS(stock.QoS):  # type: ignore[misc]
    """Acknowledgement bookkeeping."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, in Redis too unless the pool has done that."""
        if delivery_tag in FLOW.settled:
            FLOW.settled.discard(delivery_tag)
            self._quick_ack(delivery_tag)
        else:
            super().ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put unacknowledged messages back when the worker stops, and only then."""
        if FLOW.restore_on_close and self.channel.connection is not None:
            super().restore_unacked_once(stderr)
            return
        self._on_collect.cancel()
        self._delivered.clear()
        self._delivered.restored = True


class Channel(stock.Channel):  # type: ignore[misc]
    """A channel that leaves closed lanes out."""

    QoS = QoS

    def _brpop_start(self, timeout: float | None = None) -> None:
        super()._brpop_start(_PATIENCE_S if FLOW.closed and timeout is None else timeout)


class Transport(stock.Transport):  # type: ignore[misc]
    """The transport of Millrace's workers."""

    Channel = Channel


def install() -> None:
    """Serve `redis://` and `rediss://` URLs in this process: Celery and Flower know only those schemes."""
    name = f"{__name__}:Transport"
    TRANSPORT_ALIASES["redis"] = name
    TRANSPORT_ALIASES["rediss"] = name
