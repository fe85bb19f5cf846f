"""Sends one callback: a POST to a URL that a caller named, from inside the operator's network.

No redirect is followed, no proxy of the environment used, no cookie or credential sent, and of the answer nothing is kept
but its status and `Retry-After`: what a receiver says must not become a way to look into the network.
"""

import asyncio
import email.utils
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import httpcore
import httpx

from shared import __version__
from shared.addresses import AllowedHosts, GuardedNetwork, Refused, Resolver, pool_url, resolve

#: Connections of one process; per receiver the leases of events are the limit.
_MAX_CONNECTIONS = 512
#: How long an unused connection is kept, in seconds.
_KEEPALIVE_S = 15.0
#: The longest that a receiver may ask us to stay away, in seconds.
_LONGEST_PAUSE_S = 86_400.0

#: How long, and how much, of an answer's body is read to keep its connection.
_READ_ON_S = 1.0
_READ_ON_BYTES = 16 * 1024


class NotSent(Exception):
    """No answer came back: one sentence about why, without anything of the URL that may be secret."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered."""

    status: int
    #: Seconds that it asks us to wait before the next attempt.
    retry_after_s: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether the callback has arrived."""
        return 200 <= self.status < 300


class Sender:
    """Posts callbacks. Its connections belong to one event loop.

    Args:
        allowed: Hosts that may be internal, and be reached by plain http.
        timeout_s: How long sending one and receiving the answer may take, in seconds.
        resolver: Looks up hosts.
    """

    def __init__(self, allowed: AllowedHosts, *, timeout_s: float, resolver: Resolver = resolve) -> None:
        self._allowed = allowed
        self._timeout_s = timeout_s
        self._resolver = resolver

    @cached_property
    def _pools(self) -> dict[str, httpcore.AsyncConnectionPool]:
        """One for each scheme: plain http leads to allowed hosts only."""
        certificates = httpcore.default_ssl_context()
        return {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=certificates,
                max_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEPALIVE_S,
                network_backend=GuardedNetwork(self._allowed, self._resolver, public=scheme == "https"),
            )
            for scheme in ("https", "http")
        }

    async def aclose(self) -> None:
        """Close the connections."""
        if "_pools" in self.__dict__:
            for pool in self._pools.values():
                await pool.aclose()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a callback.

        Args:
            url: As `webhook_urls.checked_url` took it.
            body: As it is signed.
            headers: Its type, its signature.

        Raises:
            NotSent: There was no answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(httpx.URL(url), body, headers)
        except Refused as err:
            raise NotSent(f"the URL {err}") from err
        except (TimeoutError, httpcore.TimeoutException) as err:
            raise NotSent(f"no answer within {self._timeout_s:g} s") from err
        except httpcore.ConnectError as err:
            raise NotSent(_why_not_connected(err)) from err
        except (httpcore.NetworkError, httpcore.ProtocolError) as err:
            raise NotSent("the connection broke before there was an answer") from err

    async def _post(self, target: httpx.URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        sent = {
            "host": target.netloc.decode("ascii"),
            "user-agent": f"millrace/{__version__}",
            "accept": "*/*",
            "content-length": str(len(body)),
            **headers,
        }
        async with self._pools[target.scheme].stream(
            "POST", pool_url(target), headers=list(sent.items()), content=body
        ) as response:
            answer = Answer(response.status, _retry_after_s(httpx.Headers(response.headers).get("retry-after")))
            await _read_on(response)
            return answer


def _why_not_connected(err: httpcore.ConnectError) -> str:
    match err.__cause__ or err.__context__:
        case ssl.SSLCertVerificationError() as cause:
            return f"the receiver's certificate is not valid: {cause.verify_message}"
        case ssl.SSLError() as cause:
            said = (cause.reason or "unknown").lower().replace("_", " ")
            return f"there was no TLS connection ({said}); does the receiver speak https on that port?"
        case _:
            return "the receiver could not be connected to"


async def _read_on(response: httpcore.Response) -> None:
    """Read a short body to its end and forget it, so that the connection can be used again; a long one is left unread."""
    size = 0
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        async with asyncio.timeout(_READ_ON_S):
            async for chunk in response.aiter_stream():
                size += len(chunk)
                if size > _READ_ON_BYTES:
                    return


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, or a date, as RFC 9110 has it; None for what is neither."""
    if value is None:
        return None
    try:
        if value.strip().isdigit():
            seconds = float(value)
        else:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), _LONGEST_PAUSE_S)
