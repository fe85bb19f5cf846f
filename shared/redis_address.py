"""Where Redis is: one server, or sentinels that know which of several servers is the primary now.

An address is what `MILLRACE_REDIS_URL` says. Sentinels stand in it as kombu and Celery have them, with the primary's name
and the sentinels' own password in the query:
`sentinel://user:password@host:26379;sentinel://host2:26379/0?master=millrace&sentinel_password=other`.
With `&ssl=true` they and the servers are spoken to by TLS; its options, such as `&ssl_ca_certs=/file`, are redis-py's.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import redis
from redis import asyncio as aio
from redis import sentinel
from redis.asyncio import sentinel as aio_sentinel

from shared.redis_connections import NOTED, NOTED_AIO

#: Options of connections: an idle one whose other end is gone is noticed within about 11 s, by the kernel.
KEEPALIVE: dict[str, Any] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3},
}

_SCHEME = "sentinel"
_PORT = 26379
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"})
_OPTIONS = frozenset({"master", "sentinel_username", "sentinel_password", "ssl"}) | _TLS_OPTIONS
#: Time for a sentinel's answer, in seconds: the next one is asked after it.
_SENTINEL_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Sentinels, and what they watch."""

    hosts: tuple[tuple[str, int], ...]
    #: The primary's name.
    master: str
    db: int
    #: Of the servers.
    username: str | None
    password: str | None
    #: Of the sentinels themselves.
    sentinel_username: str | None
    sentinel_password: str | None
    #: How certificates are verified, of both; None where nothing is encrypted.
    tls: Mapping[str, str] | None = None

    def celery_url(self) -> str:
        """The address as Celery knows it; the primary's name and the rest are options of its transport."""
        user = quote(self.username or "", safe="")
        credentials = f"{user}:{quote(self.password, safe='')}@" if self.password else ""
        return ";".join(f"{_SCHEME}://{credentials}{host}:{port}/{self.db}" for host, port in self.hosts)

    def celery_options(self) -> dict[str, Any]:
        """Those options."""
        return {"master_name": self.master, "sentinel_kwargs": self.sentinel_options()}

    def server_options(self) -> dict[str, Any]:
        """How connections to the primary are made."""
        return {"db": self.db, "username": self.username, "password": self.password, **self._tls_options()}

    def sentinel_options(self) -> dict[str, Any]:
        """How connections to sentinels are made."""
        return {
            "username": self.sentinel_username,
            "password": self.sentinel_password,
            "socket_timeout": _SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": _SENTINEL_TIMEOUT_S,
            "retry": None,  # redis-py would try a dead one three times, with pauses of seconds
            **KEEPALIVE,
            **self._tls_options(),
        }

    def _tls_options(self) -> dict[str, Any]:
        return {} if self.tls is None else {"ssl": True, **self.tls}


def sentinels_of(url: str) -> Sentinels | None:
    """The sentinels of an address; None for that of a server.

    Raises:
        ValueError: It is neither; the message repeats no password.
    """
    if not url.startswith(f"{_SCHEME}://"):
        urlsplit(url).port  # noqa: B018 - raises for one that is no number
        return None
    first, *others = url.split(";")
    last = urlsplit(others[-1] if others else first)
    entries = [urlsplit(part if "://" in part else f"{_SCHEME}://{part}") for part in (first, *others)]
    options = dict(parse_qsl(last.query))
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ValueError(f"unknown option {unknown[0]!r} of sentinels; known are {', '.join(sorted(_OPTIONS))}")
    if not options.get("master"):
        raise ValueError("sentinels need the name of the primary that they watch, such as ?master=millrace")
    if any(entry.scheme != _SCHEME or not entry.hostname for entry in entries):
        raise ValueError(f"sentinels are written {_SCHEME}://host:port, separated by semicolons")
    is_encrypted = options.get("ssl", "false")
    if is_encrypted not in ("true", "false"):
        raise ValueError("ssl of sentinels is true or false")
    tls = {name: options[name] for name in sorted(_TLS_OPTIONS & options.keys())}
    if tls and is_encrypted == "false":
        raise ValueError(f"{next(iter(tls))} of sentinels needs ssl=true beside it")
    db = entries[-1].path.strip("/") or "0"
    if not db.isdecimal():
        raise ValueError("the path of a Redis address is the number of a database, such as /0")
    return Sentinels(
        hosts=tuple((str(entry.hostname), entry.port or _PORT) for entry in entries),
        master=options["master"],
        db=int(db),
        username=unquote(entries[0].username or "") or None,
        password=unquote(entries[0].password or "") or None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls={"ssl_cert_reqs": "required", **tls} if is_encrypted == "true" else None,
    )


def without_password(url: str) -> str:
    """An address as a person may see it."""
    if (sentinels := sentinels_of(url)) is not None:
        hosts = ", ".join(f"{host}:{port}" for host, port in sentinels.hosts)
        return f"the primary {sentinels.master!r} of the sentinels {hosts}"
    parts = urlsplit(url)
    return parts.path if parts.hostname is None else f"{parts.hostname}:{parts.port or 6379}"


def connect(url: str, **options: Any) -> redis.Redis:
    """A client of the server, or of whichever is the primary when it connects; its connections are kept alive.

    Args:
        url: The address.
        options: As of `redis.Redis`.
    """
    options = {**KEEPALIVE, **NOTED, **options}
    sentinels = sentinels_of(url)
    if sentinels is None:
        return redis.Redis.from_url(url, **options)
    manager = sentinel.Sentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts, sentinel_kwargs=sentinels.sentinel_options(), **sentinels.server_options()
    )
    client: redis.Redis = manager.master_for(sentinels.master, **options)  # type: ignore[no-untyped-call]
    return client


def connect_aio(url: str, **options: Any) -> aio.Redis:
    """The same for asyncio."""
    options = {**KEEPALIVE, **NOTED_AIO, **options}
    sentinels = sentinels_of(url)
    if sentinels is None:
        return aio.Redis.from_url(url, **options)
    return _aio_client(sentinels, _Pool, options)


def connect_aio_waiting(url: str, *, max_connections: int, patience_s: float | None, **options: Any) -> aio.Redis:
    """The same, with so many connections that whoever finds none free waits for one.

    Args:
        url: The address.
        max_connections: How many.
        patience_s: How long they wait, in seconds, until a `ConnectionError` says that there is none; None for ever.
        options: As of `redis.asyncio.Redis`.
    """
    options = {**KEEPALIVE, **NOTED_AIO, "max_connections": max_connections, "timeout": patience_s, **options}
    sentinels = sentinels_of(url)
    if sentinels is None:
        return aio.Redis.from_pool(aio.BlockingConnectionPool.from_url(url, **options))
    return _aio_client(sentinels, _WaitingPool, options)


class _Pool(aio_sentinel.SentinelConnectionPool):
    """Connections to the primary, which closes those to the sentinels too."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class _WaitingPool(_Pool, aio.BlockingConnectionPool):
    """The same, of a fixed size."""


def _aio_client(sentinels: Sentinels, pool: type[_Pool], options: dict[str, Any]) -> aio.Redis:
    manager = aio_sentinel.Sentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts, sentinel_kwargs=sentinels.sentinel_options(), **sentinels.server_options()
    )
    client: aio.Redis = manager.master_for(sentinels.master, connection_pool_class=pool, **options)
    return client
