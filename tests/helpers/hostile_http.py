"""Requests of which the bytes themselves are hostile, whatever they ask for."""

from random import Random

from tests.helpers.raw_http import post

CHUNKED = b"transfer-encoding: chunked"
#: A request behind another one, which nobody may find there.
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: mill\r\nconnection: close\r\n\r\n"


def head(*headers: bytes, start: bytes = b"POST /embed HTTP/1.1") -> bytes:
    """A request's line and headers."""
    return b"\r\n".join([start, b"host: mill", *headers, b"", b""])


#: Whose end, or whose meaning, is in doubt.
AMBIGUOUS = {
    "length and chunks": head(b"content-length: 5", CHUNKED) + b"0\r\n\r\n",
    "chunks and length": head(CHUNKED, b"content-length: 5") + b"0\r\n\r\n",
    "two lengths": head(b"content-length: 1", b"content-length: 2") + b"x",
    "the same length twice": head(b"content-length: 1", b"content-length: 1") + b"x",
    "a list of lengths": head(b"content-length: 1, 1") + b"x",
    "a positive length": head(b"content-length: +1") + b"x",
    "a negative length": head(b"content-length: -1") + b"x",
    "a hexadecimal length": head(b"content-length: 0x1") + b"x",
    "a length beyond 64 bits": head(b"content-length: 99999999999999999999999") + b"x",
    "a space before the colon": head(b"content-length : 1") + b"x",
    "identity": head(b"transfer-encoding: identity", b"content-length: 1") + b"x",
    "an unknown coding": head(b"transfer-encoding: xchunked") + b"0\r\n\r\n",
    "chunks within another coding": head(b"transfer-encoding: chunked, identity") + b"0\r\n\r\n",
    "chunks twice": head(CHUNKED, CHUNKED) + b"0\r\n\r\n",
    "chunks behind a control character": head(b"transfer-encoding: \x0bchunked") + b"0\r\n\r\n",
    "a folded header": head(b"x-a: b", b" c", b"content-length: 1") + b"x",
    "a folded coding": head(b"transfer-encoding:", b" chunked") + b"0\r\n\r\n",
    "a negative chunk": head(CHUNKED) + b"-1\r\n\r\n",
    "a hexadecimal prefix": head(CHUNKED) + b"0x0\r\n\r\n",
    "an endless chunk size": head(CHUNKED) + b"fffffffffffffffffff\r\n",
    "chunks that end in a bare line feed": head(CHUNKED) + b"1\nx\n0\n\n",
    "a chunk longer than its size": head(CHUNKED) + b"1\r\nxyz\r\n0\r\n\r\n",
    "a length behind chunks": head(CHUNKED) + b"1\r\nx\r\n0\r\ncontent-length: 3\r\n\r\n",
    "bare line feeds": b"POST /embed HTTP/1.1\nhost: mill\ncontent-length: 1\n\nx",
    "bare carriage returns": b"POST /embed HTTP/1.1\rhost: mill\rcontent-length: 1\r\rx",
    "NUL in a header": head(b"x-a: b\0c", b"content-length: 1") + b"x",
    "an encrypted greeting": bytes.fromhex("16030100a5010000a1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": head(start=b"CONNECT example.org:443 HTTP/1.1"),
}

_BODY = b'{"inputs":"a mill"}'
_LENGTH = b"content-length: %d" % len(_BODY)
_CLOSE = b"connection: close"
_GET = b"GET /livez HTTP/1.1"

#: Strange, but clear.
STRANGE = {
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.0": head(_LENGTH, start=b"POST /embed HTTP/1.0") + _BODY,
    "HTTP/3.1": head(start=b"GET /livez HTTP/3.1"),
    "no host": b"GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n",
    "two hosts": head(b"host: other", _CLOSE, start=_GET),
    "a host that is none": b"DELETE /embed HTTP/1.1\r\nhost: [::\xff/@:x\r\nconnection: close\r\n\r\n",
    "a whole URL": head(_CLOSE, start=b"GET http://other/livez HTTP/1.1"),
    "an asterisk": head(_CLOSE, start=b"OPTIONS * HTTP/1.1"),
    "no slash": head(_CLOSE, start=b"GET livez HTTP/1.1"),
    "two slashes": head(_CLOSE, start=b"GET //livez HTTP/1.1"),
    "dots": head(_CLOSE, start=b"GET /docs/static/../../../../etc/passwd HTTP/1.1"),
    "hidden dots": head(_CLOSE, start=b"GET /docs/static/%2e%2e%2f%2e%2e%2fpyproject.toml HTTP/1.1"),
    "bytes in the path": head(_CLOSE, start=b"GET /\xc3\xa9 HTTP/1.1"),
    "escapes in the path": head(_CLOSE, start=b"GET /v1/models/%ff%00%0d%0a%ed%a0%80 HTTP/1.1"),
    "an endless path": head(_CLOSE, start=b"GET /" + b"y" * 60_000 + b" HTTP/1.1"),
    "an unknown method": head(_CLOSE, start=b"BREW /embed HTTP/1.1"),
    "TRACE": head(_CLOSE, start=b"TRACE /embed HTTP/1.1"),
    "a body that nobody wants": head(_CLOSE, _LENGTH, start=_GET) + _BODY,
    "a websocket": head(b"connection: upgrade, close", b"upgrade: websocket", b"sec-websocket-version: 13", start=_GET),
    "HTTP/2 on offer": head(b"connection: upgrade, close", b"upgrade: h2c", _LENGTH) + _BODY,
    "an expectation": post("/embed", _BODY, b"expect: 100-continue"),
    "another expectation": post("/embed", _BODY, b"expect: a miracle"),
    "a packed body that is none": post("/embed", _BODY, b"content-encoding: gzip"),
    "chunks with extensions": head(_CLOSE, CHUNKED) + b'13;a="b"\r\n' + _BODY + b"\r\n0\r\n\r\n",
    "many headers": head(_CLOSE, *(b"x-%d: y" % number for number in range(2000)), start=_GET),
    "more behind the last request": post("/embed", _BODY) + post("/embed", _BODY),
    "five at once": (head(_LENGTH) + _BODY) * 4 + post("/embed", _BODY),
    "one and rubbish": head(_LENGTH) + _BODY + b"RUBBISH\r\n\r\n",
    "a deadline of nan": post("/embed", _BODY, b"x-request-timeout: nan"),
    "a deadline long ago": post("/embed", _BODY, b"x-request-timeout: -1"),
    "a deadline now": post("/embed", _BODY, b"x-request-timeout: 1e-320"),
    "a deadline of bytes": post("/embed", _BODY, b"x-request-timeout: \xff\xfe"),
    "a lane of bytes": post("/embed", _BODY, b"x-millrace-lane: \xff\t"),
    "an id of bytes": post("/embed", _BODY, b"x-request-id: \xff" + b"y" * 500),
    "a forwarded address that is none": post("/embed", _BODY, b"x-forwarded-for: \xff, ::, 999.1.1.1"),
}

#: Which are never finished, so that the server has to give up on them.
UNFINISHED = [
    b"",
    b"P",
    b"POST /embed HTTP/1.1\r\nhost: m",
    b"GET / HTTP/1.1\r\nhost: mill\r\nx-a: " + b"b" * 10_000,
]

#: Whose sender is refused while it still sends.
ENDLESS = [
    b"GET / HTTP/1.1\r\nx: " + b"y" * 2_000_000,
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200_000,
    b"GET /" + b"y" * 2_000_000,
]


def pieces(request: bytes, random: Random) -> tuple[bytes, ...]:
    """A request as it may arrive: whole, in two, or its beginning byte by byte."""
    kind = random.random()
    if kind < 0.7:
        return (request,)
    cut = random.randrange(1, max(2, min(len(request), 2000)))
    if kind < 0.95:
        return (request[:cut], request[cut:])
    return (*(request[at : at + 1] for at in range(20)), request[20:])
