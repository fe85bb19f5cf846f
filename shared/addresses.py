"""Addresses that a URL from a stranger may lead to: public ones, and those that the operator allows.

Such a URL is followed from inside the operator's network. So the guard sits where connections are made: a host is looked up
once, every address of it is checked, and connected to as it was checked. Nothing here knows proxies.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import httpcore
import httpx

#: Looks up the addresses of a host.
Resolver = Callable[[str], Awaitable[Sequence[str]]]

#: The part of IPv6 that is handed out. Outside lie the forms that wrap an IPv4 address (mapped, NAT64) and site-local ones.
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")
#: Global to `ipaddress` (of some Python versions), and yet a way to somewhere internal.
_NOT_PUBLIC = [
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's agent on every virtual machine
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments; 192.0.0.192 has Oracle's instance metadata
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.ip_network("2001::/32"),  # Teredo, wraps IPv4
    ipaddress.ip_network("2002::/16"),  # 6to4, wraps IPv4
    ipaddress.ip_network("3fff::/20"),  # documentation
]


class Refused(Exception):
    """Why a host is not connected to: what follows its name in a sentence."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable by everybody, so that reaching it from here gives nothing away."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip not in _IPV6_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


async def resolve(host: str) -> list[str]:
    """The addresses of a host, as the system finds them; an address in any spelling is its own."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def pool_url(url: httpx.URL) -> httpcore.URL:
    """A URL as a connection pool takes it."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


class AllowedHosts:
    """Hosts that may have internal addresses because the operator says so.

    Args:
        entries: `host`, `host:port`, `[::1]:port`, or a network such as `10.1.0.0/16`.
    """

    def __init__(self, entries: Collection[str]) -> None:
        self._names = {entry.lower() for entry in entries if "/" not in entry}
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in entries if "/" in entry]

    @classmethod
    def listed(cls, text: str) -> "AllowedHosts":
        """The hosts of a comma-separated list.

        Raises:
            ValueError: A network in it is none.
        """
        return cls([entry.strip() for entry in text.split(",") if entry.strip()])

    @property
    def has_networks(self) -> bool:
        """Whether hosts may be allowed by what their names lead to."""
        return bool(self._networks)

    def names(self, host: str, port: int) -> bool:
        """Whether the host is allowed by its name, wherever that leads."""
        name = f"[{host}]" if ":" in host else host
        return not self._names.isdisjoint({name.lower(), f"{name}:{port}".lower()})

    def holds(self, address: str) -> bool:
        """Whether the address lies in an allowed network."""
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._networks)

    def allows(self, host: str, port: int, addresses: Collection[str]) -> bool:
        """Whether the host, which has these addresses, is allowed."""
        return self.names(host, port) or all(map(self.holds, addresses))


class GuardedNetwork(httpcore.AnyIOBackend):
    """Connects to public addresses, and to any of the hosts that the operator allows.

    Args:
        allowed: Those hosts.
        resolver: Looks up hosts.
        public: Whether public addresses are connected to; otherwise those of allowed hosts alone are.
    """

    def __init__(self, allowed: AllowedHosts, resolver: Resolver = resolve, *, public: bool = True) -> None:
        self._allowed = allowed
        self._resolver = resolver
        self._public = public

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers; all of them must be allowed."""
        try:
            addresses = await self._resolver(host)
        except (OSError, UnicodeError) as err:  # UnicodeError: no name at all, for example with a label of 64 letters
            raise Refused("leads to a host that cannot be found") from err
        if not self._allowed.allows(host, port, addresses):
            if not all(map(is_public, addresses)):
                raise Refused("leads to an address that is not public; an operator can allow its host")
            if not self._public:
                raise Refused("leads to a host that is reached by https only; an operator can allow it")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as err:
                failure = err
        raise failure
