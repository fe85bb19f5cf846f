"""HTTP connections: uvicorn's protocol, with bounds on what may come before a request's body, and deaf to other protocols.

Uvicorn with httptools takes a request's line and headers of any size, waits for them for ever, takes fields behind a body
for headers, and loses the body of a request that offers another protocol beside it (`Upgrade: h2c`), as Java's HTTP client
does with its first one.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api import wire
from shared.errors import HeadTooLarge, HeadTooSlow, MalformedHttp, MillraceError
from shared.logging import get_logger

log = get_logger("millrace.connections")

#: Headers of one hop, which offer another protocol or belong to the offer.
_OFFERS = frozenset({b"upgrade", b"http2-settings"})
#: A client that is refused while it sends may go on, since most read nothing before all is sent: until nothing has come for
#: so long, and so long at most, in seconds.
_LINGER_S, _LINGER_MOST_S = 1.0, 30.0


class _Outlet:
    """A transport that drops what nobody will read, and closes so that what was written is read.

    Uvicorn tells the last request of a connection that its client has gone, but not the one before, which it answers still.
    """

    def __init__(self, transport: asyncio.Transport, is_in_body: Callable[[], bool]) -> None:
        """Wrap a transport.

        Args:
            transport: Of the connection.
            is_in_body: Whether the rest of a request's body is still to come.
        """
        self._transport = transport
        self._is_in_body = is_in_body
        #: Whether the last bytes have been sent.
        self.has_ended = False
        #: Whether nothing is understood any more of what comes.
        self.is_deaf = False
        self._has_heard = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self.has_ended or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes, if there is still somebody to send them to."""
        if not self.is_closing():
            self._transport.write(data)

    def end(self, data: bytes = b"") -> None:
        """Send the last bytes there will be, and close a little later.

        Closed with bytes unread, the connection would be reset, and the answer lost on its way (RFC 9112, 9.6).
        """
        if not self.is_closing():
            self._transport.write(data)
            self._transport.write_eof()
            self._transport.resume_reading()
            self._linger(asyncio.get_running_loop().time() + _LINGER_MOST_S)
        self.has_ended = self.is_deaf = True

    def drop(self) -> None:
        """Something came after the end."""
        self._has_heard = True

    def _linger(self, until: float) -> None:
        def look() -> None:
            if self._has_heard and loop.time() < until:
                self._linger(until)
            else:
                self._transport.close()

        self._has_heard = False
        loop = asyncio.get_running_loop()
        loop.call_later(_LINGER_S, look)

    def close(self) -> None:
        """Close: at once where all that the client sends has been read, or when told again, as by a server that leaves."""
        if self._is_in_body() and not self.has_ended:
            self.end()
        else:
            self._transport.close()

    def resume_reading(self) -> None:
        """Let more come."""
        if not self.is_closing():
            self._transport.resume_reading()


class Connection(HttpToolsProtocol):
    """One client's connection."""

    #: Request line and headers that have not ended after so many bytes are refused; so are fields behind a body (trailers).
    head_limit_bytes: ClassVar[int] = 64 * 1024
    #: A connection whose first request, or any that has begun, has not got so far in this time is closed, in seconds.
    head_timeout_s: ClassVar[float] = 20.0
    #: A client that takes less than so much of its answer in such a time is cut off, in seconds and bytes.
    write_timeout_s: ClassVar[float] = 120.0
    least_taken_bytes: ClassVar[int] = 1 << 20
    #: How long a server that leaves waits for a connection's last request, in seconds: it may be on its way.
    last_request_s: ClassVar[float] = 1.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*arguments, **named)
        self._in_head = False
        self._is_reading_body = False
        #: Whether fields have come behind the body that is being read.
        self._has_trailers = False
        #: Whether what came last had a piece of a body in it, or the end of a head or of a message.
        self._got_on = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._leaving = False
        #: The request that is being answered, or was last.
        self._answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # noqa: D102 - asyncio's
        self._outlet = _Outlet(transport, self._is_in_body)
        super().connection_made(self._outlet)  # type: ignore[arg-type]
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_overdue)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - asyncio's
        self._forget_head()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:  # noqa: D102 - asyncio's
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:  # noqa: D102 - asyncio's
        super().resume_writing()
        self._stop_write_timer()

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        if self._outlet.is_deaf:
            self._outlet.drop()
            return
        self._unset_keepalive_if_required()
        self._got_on = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self._refuse(MalformedHttp())
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as err:
            self._refuse(MalformedHttp(f"this is not a valid HTTP request: {err}"))
        else:
            self._watch_head(len(data))

    def on_message_begin(self) -> None:  # noqa: D102 - httptools'
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102 - httptools'
        if self._in_head:
            super().on_header(name, value)
        else:
            # A trailer is no header: nobody who stands in front of here has looked at it (RFC 9110, 6.5.1).
            self._has_trailers = True

    def on_headers_complete(self) -> None:  # noqa: D102 - httptools'
        self._in_head, self._is_reading_body, self._has_trailers, self._got_on = False, True, False, True
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            # Refused before it was told to go on, a client does not send its body, and says where the next request begins.
            self.cycle.keep_alive = self.cycle.keep_alive and not self._leaving and not self.expect_100_continue

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:  # noqa: D102 - httptools'
        self._got_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:  # noqa: D102 - httptools'
        self._got_on, self._is_reading_body = True, False
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def shutdown(self) -> None:
        """The server leaves: the request that is under way is the last one, or the one that comes in a moment."""
        self._leaving = True
        if self._is_idle():
            self.loop.call_later(self.last_request_s, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        # A request whose headers have begun is waited for by the head's own timer.
        if self._is_idle() and not self._in_head:
            self.transport.close()

    def _watch_writing(self) -> None:
        """Nothing more is written until the client has taken most of what is: see that it does."""
        unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.write_timeout_s, self._cut_off_if_slow, unread)

    def _cut_off_if_slow(self, unread: int) -> None:
        if unread - self.transport.get_write_buffer_size() >= self.least_taken_bytes:
            self._watch_writing()
            return
        log.info("client_cut_off", unread_bytes=unread, seconds=self.write_timeout_s)
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _is_in_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body and not self.cycle.disconnected

    def _decline(self, rest: bytes) -> None:
        """Read a request again without its offer of another protocol: the parser takes no body of one that has it."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedHttp("this is no proxy: CONNECT is not served"))
            return
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.lower().split(b",")]
                value = b", ".join(token for token in tokens if token not in _OFFERS)
            if name not in _OFFERS:
                lines.append(b"%s: %s" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _watch_head(self, received: int) -> None:
        """After some bytes: is there a request whose headers, or what may stand behind its body, have not ended?"""
        is_behind_body = self._is_reading_body and not self._got_on
        if not self._in_head and not is_behind_body:
            self._forget_head()
            return
        if not self._got_on:  # else most of it may be what came before this head
            self._head_bytes += received
        if self._head_bytes > self.head_limit_bytes:
            what = "line and headers exceed" if self._in_head else "trailers exceed"
            self._refuse(HeadTooLarge(f"the request's {what} {self.head_limit_bytes} bytes"))
        elif self._head_timer is None and (self._in_head or self._has_trailers):
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_overdue)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self._in_head or self._has_trailers:
            self._refuse(HeadTooSlow())
        else:
            self.transport.close()

    def _refuse(self, error: MillraceError) -> None:
        """Answer what is no request that anybody could be given, and close: where the next one begins is not known."""
        self._forget_head()
        log.info("connection_refused", code=error.code, reason=error.message)
        if self._is_reading_body and self.cycle is not None and self.cycle.response_complete:
            self.transport.close()  # it was answered by its head, and that was the answer
            return
        if self._answered is not None and not self._answered.response_complete:
            if self.pipeline and self._is_in_body():
                self.pipeline.popleft()  # it is the last one's body that is wrong
                self.cycle = self.pipeline[0][0] if self.pipeline else self._answered
            if not self._is_in_body():
                # Those before it are answered, and the connection is closed then.
                self.cycle.keep_alive = False
                self._outlet.is_deaf = True
                return
        self.pipeline.clear()
        if self.cycle is not None and not self.cycle.response_complete:
            # The body of a request that is being read has gone wrong: to the application it is as if the client had left.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        content = wire.dumps(wire.nested_error(error))
        lines = [STATUS_LINE[error.status] + b"content-type: application/json", b"content-length: %d" % len(content)]
        self._outlet.end(b"\r\n".join([*lines, b"connection: close", b"", content]))
