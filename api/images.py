"""Images by reference: base64 in the request itself, or a URL that leads to a public address.

A URL comes from a stranger and is followed from inside the operator's network. So the guard sits where connections are
made: every address, of every redirect too, is looked up once, checked, and connected to as it was checked. The bytes come
through httpcore's own pool, the only public way to give it a guarded network; it knows no proxies, cookies or credentials.
"""

import asyncio
import base64
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import cached_property

import httpcore
import httpx

from shared import __version__
from shared.errors import ImageUnavailable, InvalidRequest

#: Looks up the addresses of a host.
Resolver = Callable[[str], Awaitable[Sequence[str]]]

MAX_REDIRECTS = 3
#: Images that one gateway fetches at the same time; further ones wait.
MAX_CONNECTIONS = 100

_HEADERS = [("accept", "image/*"), ("accept-encoding", "identity"), ("user-agent", f"millrace/{__version__}")]

#: PNG, JPEG, GIF, BMP (with the size of a known header, as two letters prove little), TIFF, WebP.
_SIGNATURE = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|II\*\0|MM\0\*|RIFF.{4}WEBP",
    re.DOTALL,
)
_FORMATS = "PNG, JPEG, WebP, GIF, BMP or TIFF"
#: What object stores call files that were uploaded without a type; the bytes then speak for themselves.
_UNTYPED = ("application/octet-stream", "binary/octet-stream")

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


class _Unusable(Exception):
    """Why an image cannot be used: what follows its URL in a sentence."""


def is_image(data: bytes) -> bool:
    """Whether the bytes begin as those of an image format that workers read."""
    return _SIGNATURE.match(data) is not None


def is_public(address: str) -> bool:
    """Whether an IP address is reachable by everybody, so that reaching it from here gives nothing away."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and ip not in _IPV6_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def decode_image(reference: str) -> bytes | None:
    """The image that a reference contains; None when it is a URL, to be fetched.

    Raises:
        InvalidRequest: It is neither, or the bytes are not an image.
    """
    if reference[:8].lower().startswith(("http://", "https://")):
        return None
    payload = reference
    if reference[:5].lower() == "data:":
        head, _, payload = reference.partition(",")
        if not re.fullmatch(r"data:image/[^,]*;base64", head, re.IGNORECASE):
            raise InvalidRequest("a data URI of an image must begin with data:image/...;base64,")
    try:
        # Many encoders break lines.
        data = base64.b64decode("".join(payload.split()), validate=True)
    except ValueError:
        raise InvalidRequest("an image must be an http(s) URL, a data:image/...;base64, URI or valid base64") from None
    if not is_image(data):
        raise InvalidRequest(f"the base64 data is not an image; send {_FORMATS}")
    return data


async def resolve(host: str) -> list[str]:
    """The addresses of a host, as the system finds them; an address in any spelling is its own."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class GuardedNetwork(httpcore.AnyIOBackend):
    """Connects to public addresses, and to internal ones of the hosts that the operator named."""

    def __init__(self, allowed_hosts: Collection[str], resolver: Resolver) -> None:
        self._allowed_hosts = {host.lower() for host in allowed_hosts}
        self._resolver = resolver

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
            raise _Unusable("leads to a host that cannot be found") from err
        name = f"[{host}]" if ":" in host else host
        if self._allowed_hosts.isdisjoint({name, f"{name}:{port}"}) and not all(map(is_public, addresses)):
            raise _Unusable("leads to an address that is not public; an operator can allow its host")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as err:
                failure = err
        raise failure


class ImageFetcher:
    """Turns references into the bytes of images.

    Args:
        max_bytes: Size of the largest image.
        timeout_s: How long fetching one image may take, redirects and all, in seconds.
        allowed_hosts: Hosts that may have internal addresses, as they stand in URLs: `host`, `host:port`, `[::1]:port`.
        enabled: Whether URLs are fetched at all.
        resolver: Looks up hosts.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout_s: float,
        allowed_hosts: Collection[str],
        enabled: bool,
        resolver: Resolver = resolve,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._enabled = enabled
        self._network = GuardedNetwork(allowed_hosts, resolver)

    @cached_property
    def _pool(self) -> httpcore.AsyncConnectionPool:
        """Made with the first image: reading the certificates takes tens of milliseconds, and most gateways fetch none."""
        return httpcore.AsyncConnectionPool(
            ssl_context=httpcore.default_ssl_context(),  # or the pool would read them for each connection
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=5,
            network_backend=self._network,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if "_pool" in self.__dict__:
            await self._pool.aclose()

    async def read(self, reference: str) -> bytes:
        """The image that a reference contains or leads to.

        Raises:
            InvalidRequest: The reference is no reference, or not to an image, or the image is too large.
            ImageUnavailable: The image could not be fetched.
        """
        data = decode_image(reference)
        if data is None:
            return await self.fetch(reference)
        if len(data) > self._max_bytes:
            raise InvalidRequest(f"an image of {len(data)} bytes is larger than {self._max_bytes}; send a smaller one")
        return data

    async def fetch(self, url: str) -> bytes:
        """The image at a URL.

        Raises:
            ImageUnavailable: It could not be fetched; the sentence names the URL without its query, which may be secret.
        """
        if not self._enabled:
            raise ImageUnavailable("images are not fetched from URLs here; send them as base64")
        shown = "the image's URL"
        try:
            target = _target(url)
            shown = str(target.copy_with(query=None, fragment=None))
            async with asyncio.timeout(self._timeout_s):
                return await self._get(target)
        except _Unusable as err:
            raise ImageUnavailable(f"{shown} {err}") from err
        except TimeoutError as err:
            raise ImageUnavailable(f"{shown} took longer than {self._timeout_s:g} s") from err
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as err:
            raise ImageUnavailable(f"{shown} could not be fetched") from err

    async def _get(self, target: httpx.URL) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            url = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
            async with self._pool.stream("GET", url, headers=[("host", target.netloc), *_HEADERS]) as response:
                headers = httpx.Headers(response.headers)
                if not httpx.codes.is_redirect(response.status) or "location" not in headers:
                    return await self._body(response, headers)
                # The body of a redirect stays unread: it may be endless.
                target = _target(headers["location"], target)
        raise _Unusable(f"redirects more than {MAX_REDIRECTS} times")

    async def _body(self, response: httpcore.Response, headers: httpx.Headers) -> bytes:
        if response.status != 200:
            raise _Unusable(f"answered {response.status} instead of 200")
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not media_type.startswith("image/") and media_type not in _UNTYPED:
            raise _Unusable("is not an image by its content-type")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise _Unusable("came with a content-encoding, which was not asked for")  # and may unpack to any size
        data = bytearray()
        async for chunk in response.aiter_stream():
            data += chunk
            if len(data) > self._max_bytes:
                raise _Unusable(f"is larger than {self._max_bytes} bytes")
        image = bytes(data)
        if not is_image(image):
            raise _Unusable(f"is not an image by its first bytes; send {_FORMATS}")
        return image


def _target(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """Where to send a request: a URL, or a redirect's location seen from `base`."""
    try:
        target = base.join(url) if base else httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        target = httpx.URL()
    is_web = target.scheme in ("http", "https") and target.host != "" and (target.port or 0) in range(65536)
    if not is_web or target.userinfo:
        raise _Unusable("is, or redirects to, something other than an http(s) URL without user name and password")
    return target
