"""The stock Redis transport of kombu 5.7 with eleven changes; keys and messages stay kombu's own.

1. *Lanes can be closed.* A lane that holds its share is left out of the next BRPOP, so bulk work never fills the worker's
   buffer (kombu has one prefetch per channel; with 512 bulk messages prefetched an interactive request waited 251 ms).
2. *Acknowledgements that the pool has already written are only noted.* The pool removes a message from the unacked hash
   in the same round trip that stores its result, through a client that outlives this channel.
3. *A lost connection restores nothing.* Stock kombu pushes unacknowledged messages back when a channel closes, and when
   Redis is what went away it dies doing so ('NoneType' object has no attribute 'hostname', on any pool but solo). The
   pool still works on those messages and answers them; should this process die, its lease ends and they are recovered.
4. *A message taken is recorded by one HSET, whose reply is read after the message has been handed on.* Stock kombu also
   keeps an index by time for its visibility timeout, in a transaction, and waits; leases have taken that timeout's place,
   and at idle the wait was a tenth of the time that the queue adds to a request.
5. *Commands reuse one client.* kombu builds a new `redis.Redis` for every append and acknowledgement, 17 % of a worker's
   time per message.
6. *What is no message is dropped.* What cannot be read, stock kombu raises out of the event loop, and the worker ends.
7. *A dead connection is not dead alone.* When BRPOP gets no reply, kombu drops its connection only; the channel's others,
   which went dead with it, would each cost a socket timeout when they are next used. Nor are those of other clients.
8. *A server that refuses is asked again.* A full disk, too little memory or missing replicas make Redis refuse to write, and
   BRPOP writes. Stock kombu raises that out of the event loop too, and the worker ends.
9. *An acknowledgement that comes after its connection has closed is dropped.* Stock kombu asks the channel for a connection
   that it has no more ('NoneType' object has no attribute 'client'), and the worker ends.
10. *Messages have bounds.* None is read that is larger than a gateway's can be, and none is decompressed: one of 778 kB took
    a worker 1.2 GB.
11. *Its connections are noted*, so that the heartbeat ends them when they have become silent (`shared.redis_connections`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from time import monotonic
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.serialization import prepare_accept_content
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as stock
from kombu.utils.json import dumps
from kombu.utils.scheduling import priority_cycle
from redis.exceptions import ResponseError

from shared.celery_message import MESSAGE_LIMIT_BYTES, is_suspect, suspected
from shared.logging import get_logger
from shared.redis_connections import NOTED, met_with_silence

log = get_logger("millrace.transport")

#: Content types of messages; pickle is none.
_ACCEPTED = prepare_accept_content(["msgpack", "json"])
#: BRPOP's patience in seconds while a lane is closed: how long a reopened lane may go unnoticed.
_PATIENCE_S = 0.01
#: How long a server that has refused is left alone, in seconds.
_REFUSED_S = 0.5


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


class OpenLanes(priority_cycle):
    """Queues in declared order, interactive first, without the closed ones."""

    def consume(self, n: int) -> list[str]:
        """The queues of the next BRPOP."""
        return [queue for queue in super().consume(n) if queue not in FLOW.closed]


class QoS(stock.QoS):
    """Acknowledgement bookkeeping."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a message that has just been popped."""
        info = message.delivery_info
        entry = dumps([message._raw, info["exchange"], info["routing_key"]])
        self.channel.record(self.unacked_key, delivery_tag, entry)
        virtual.QoS.append(self, message, delivery_tag)

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Nothing to do: `shared.leases` recovers what a dead worker held."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, in Redis too unless the pool has done that."""
        if delivery_tag in FLOW.settled:
            FLOW.settled.discard(delivery_tag)
            self._quick_ack(delivery_tag)
            return
        self._tell_redis(super().ack, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Refuse a message that the worker can do nothing with, or give it back."""
        self._tell_redis(super().reject, delivery_tag, requeue)

    def _tell_redis(self, command: Callable[..., None], delivery_tag: str, *arguments: Any) -> None:
        # Otherwise it stays in the unacked hash until this worker's lease ends, and comes again: it may be run twice.
        if self.channel.connection is None:
            log.warning("acknowledgement_lost", error="the connection has closed")
            self._quick_ack(delivery_tag)
            return
        try:
            command(delivery_tag, *arguments)
        except ResponseError as err:
            log.warning("acknowledgement_refused", error=str(err))
            self._quick_ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put unacknowledged messages back when the worker stops, and only then."""
        if FLOW.restore_on_close and self.channel.connection is not None:
            super().restore_unacked_once(stderr)
            return
        self._on_collect.cancel()
        self._delivered.clear()
        self._delivered.restored = True


class Unreadable(Exception):
    """What was taken from a queue is no message."""


class TooLarge(Unreadable):
    """Nor is what is larger than any of ours."""


class Compressed(Exception):
    """None of ours is, and it may be of any size."""


class Message(virtual.Message):
    """A message that says of another that it is none."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            _refuse_compressed(payload)
            super().__init__(payload, channel=channel, accept=_ACCEPTED, **kwargs)
            # Wanted when it is recorded, and as texts when it is recovered.
            _ = self.delivery_info["exchange"].encode(), self.delivery_info["routing_key"].encode()
            # Decoded here for once: whoever asks later gets the same object.
            decoded = self.decode()
            if "task" in self.headers:
                _, arguments, _ = decoded
                _ = self.headers["id"].encode(), arguments.keys()
        except Exception as err:
            raise Unreadable from err

    @property
    def is_suspect(self) -> bool:
        """Whether a worker has died with it (`recover.lua` marks it beside kombu's own keys, which kombu keeps)."""
        return is_suspect(self._raw)

    @property
    def suspected(self) -> int | None:
        """Position in its task of the request that ran then, where that is known."""
        return suspected(self._raw)


def _refuse_compressed(payload: Any) -> None:
    # Stock kombu decompresses when a message is made, before anybody has asked for its body.
    if (payload.get("headers") or {}).get("compression"):
        raise Compressed


class Channel(stock.Channel):
    """A channel that leaves closed lanes out."""

    QoS = QoS
    Message = Message
    _command_client: Any = None
    _recorder: Any = None
    _record_unconfirmed = False
    _refused_until = 0.0

    def record(self, key: str, tag: str, entry: str) -> None:
        """Send HSET; the reply is read on the event loop's next turn, or before the next record."""
        self._confirm_record()
        if self._recorder is None:
            self._recorder = self.pool.get_connection()
        self._recorder.send_command("HSET", key, tag, entry)
        self._record_unconfirmed = True
        loop = get_event_loop()
        if (
            loop is None or self._closing
        ):  # a closing channel delivers what its last BRPOP had popped, outside of any loop
            self._confirm_if_possible()
        else:
            loop.call_soon(self._confirm_record)

    def drop_connections(self) -> None:
        """Have every command connect anew."""
        self._record_unconfirmed = False  # the gateway finds out whether it was written
        for pool in (self._pool, self._async_pool):
            if pool is not None:
                pool.disconnect()

    def close(self) -> None:
        """Close, after the last record has been confirmed."""
        self._confirm_if_possible()
        super().close()

    def _confirm_if_possible(self) -> None:
        """The same where the connection may be what was lost.

        If the record was written, the message must not be dropped: it would count as held by this worker, which lives, and
        be nobody's. If it was not, the gateway finds that out.
        """
        try:
            self._confirm_record()
        except self.connection_errors as err:
            log.info("record_unconfirmed", error=str(err))

    def _confirm_record(self) -> None:
        if self._record_unconfirmed:
            self._record_unconfirmed = False
            try:
                self._recorder.read_response()
            except ResponseError as err:
                # Should this process die before it has answered, the gateway publishes it again.
                log.warning("record_refused", error=str(err))

    def _connparams(self, asynchronous: bool = False) -> Any:
        return {**super()._connparams(asynchronous=asynchronous), **NOTED}

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            client = super()._create_client(asynchronous=True)
            client.parse_response = _bounded(client.parse_response)
            return client
        if self._command_client is None or self._command_client.connection_pool is not self.pool:
            self._command_client = super()._create_client()
        return self._command_client

    def _brpop_start(self, timeout: float | None = None) -> None:
        if monotonic() < self._refused_until:
            return
        super()._brpop_start(_PATIENCE_S if FLOW.closed and timeout is None else timeout)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            with self._dropping_what_is_no_message():
                return super()._brpop_read(**options)
        except ResponseError as err:
            if monotonic() > self._refused_until + 1:  # once for all that follow each other
                log.warning("server_refuses", error=str(err))
            self._refused_until = monotonic() + _REFUSED_S
        return None

    def _receive_one(self, client: Any) -> Any:
        with self._dropping_what_is_no_message():
            return super()._receive_one(client)
        return None

    @contextmanager
    def _dropping_what_is_no_message(self) -> Iterator[None]:
        handed_on = self.connection.handed_on
        try:
            yield
        except (Empty, *self.connection_errors):
            raise
        except Exception as err:
            # What those raise who take a message is their fault and not the message's.
            if self.connection.handed_on != handed_on and not isinstance(err, Unreadable):
                raise
            # It has left the queue already, and nobody waits for it. What it holds is not ours to repeat.
            log.warning("message_unreadable", error=type(err.__cause__ or err).__name__)


def _bounded(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The same reader of replies, which hands on no message that is too large to be one of ours."""

    def parse_bounded(connection: Any, command: str, **options: Any) -> Any:
        reply = parse(connection, command, **options)
        if command == "BRPOP" and reply and len(reply[1]) > MESSAGE_LIMIT_BYTES:
            raise TooLarge
        return reply

    return parse_bounded


class Poller(stock.MultiChannelPoller):
    """The poller of a transport's channels."""

    def maybe_check_brpop_health(self) -> None:
        """Drop what does not answer any more."""
        asked = [(channel, channel._in_poll) for channel in self._channels if channel._in_poll]
        super().maybe_check_brpop_health()
        for channel, connection in asked:
            if connection._sock is None:
                channel.drop_connections()
                met_with_silence()


class SentinelChannel(Channel, stock.SentinelChannel):
    """Of whichever server sentinels call the primary."""


class _Lasting:
    """What both transports change, whichever of kombu's they are."""

    connection_errors = (*stock.Transport.connection_errors, ResponseError)
    #: Messages that were what JSON has for one.
    handed_on = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def _deliver(self, message: Any, queue: str) -> None:
        self.handed_on += 1
        super()._deliver(message, queue)  # type: ignore[misc]  # it is mixed into transports


class Transport(_Lasting, stock.Transport):
    """The transport of Millrace's workers."""

    Channel = Channel


class SentinelTransport(_Lasting, stock.SentinelTransport):
    """The same for servers with sentinels."""

    Channel = SentinelChannel


def install() -> None:
    """Serve these URLs in this process: Celery and Flower know only such schemes."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
