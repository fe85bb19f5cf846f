"""Images by reference: base64 in the request itself, or a URL that leads to a public address.

A URL comes from a stranger and is followed from inside the operator's network: every address, of every redirect too, is
checked where the connection is made (`shared.addresses`). The bytes come through httpcore's own pool, the only public way
to give it a guarded network; it knows no proxies, cookies or credentials.
"""

import asyncio
import base64
import re
from collections.abc import Collection
from functools import cached_property

import httpcore
import httpx

from api.aside import aside
from shared import __version__
from shared.addresses import AllowedHosts, GuardedNetwork, Refused, Resolver, pool_url, resolve
from shared.errors import ImageUnavailable, InvalidImage

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
#: base64's alphabet for URLs, in terms of the usual one.
_URL_SAFE = str.maketrans("-_", "+/")
#: References up to this length are decoded at once, in less than a millisecond ...
_AT_ONCE_CHARACTERS = 128 * 1024
#: ... and longer ones in pieces, each of whole groups of four.
_PIECE_CHARACTERS = 512 * 1024
#: A longer URL is shortened in sentences to its beginning: enough to know it again.
_MOST_SHOWN = 200
#: What object stores call files that were uploaded without a type; the bytes then speak for themselves.
_UNTYPED = ("application/octet-stream", "binary/octet-stream")


class _Unusable(Exception):
    """Why an image cannot be used: what follows its URL in a sentence."""


def is_image(data: bytes) -> bool:
    """Whether the bytes begin as those of an image format that workers read."""
    return _SIGNATURE.match(data) is not None


def decode_image(reference: str) -> bytes | None:
    """The image that a reference contains; None when it is a URL, to be fetched.

    Raises:
        InvalidImage: It is neither, or the bytes are not an image.
    """
    if reference[:8].lower().startswith(("http://", "https://")):
        return None
    payload = reference
    if reference[:5].lower() == "data:":
        head, _, payload = reference.partition(",")
        if not re.fullmatch(r"data:image/[^,]*;base64", head, re.IGNORECASE):
            raise InvalidImage("a data URI of an image must begin with data:image/...;base64,")
    try:
        data = _decoded(_plain(payload))
    except ValueError:
        raise InvalidImage("an image must be an http(s) URL, a data:image/...;base64, URI or valid base64") from None
    if not is_image(data):
        raise InvalidImage(f"the base64 data is not an image; send {_FORMATS}")
    return data


def _plain(payload: str) -> str:
    """Base64 in its usual alphabet: many encoders break lines, others write it for URLs, often without the padding."""
    joined = "".join(payload.split())
    if "+" in joined or "/" in joined:
        return joined
    return joined.translate(_URL_SAFE) + "=" * (-len(joined) % 4)


def _decoded(payload: str) -> bytes:
    """The bytes of base64, in pieces of a few milliseconds: a whole image of eight megabytes takes fifty.

    Raises:
        ValueError: It is no base64.
    """
    if "=" in payload[:-2]:
        raise ValueError("padding in the middle")
    pieces = range(0, len(payload), _PIECE_CHARACTERS)
    return b"".join(base64.b64decode(payload[start : start + _PIECE_CHARACTERS], validate=True) for start in pieces)


class ImageFetcher:
    """Turns references into the bytes of images.

    Args:
        max_bytes: Size of the largest image.
        timeout_s: How long fetching one image may take, redirects and all, in seconds.
        allowed_hosts: Hosts that may have internal addresses, as they stand in URLs: `host`, `host:port`,
            `[::1]:port`, or networks.
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
        self._network = GuardedNetwork(AllowedHosts(allowed_hosts), resolver)

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
            InvalidImage: The reference is no reference, or not to an image, or the image is too large.
            ImageUnavailable: The image could not be fetched.
        """
        large = len(reference) > _AT_ONCE_CHARACTERS
        data = await aside(decode_image, reference) if large else decode_image(reference)
        if data is None:
            return await self.fetch(reference)
        if len(data) > self._max_bytes:
            raise InvalidImage(f"an image of {len(data)} bytes is larger than {self._max_bytes}; send a smaller one")
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
            shown = _shown(target)
            async with asyncio.timeout(self._timeout_s):
                return await self._get(target)
        except (_Unusable, Refused) as err:
            raise ImageUnavailable(f"{shown} {err}") from err
        except TimeoutError as err:
            raise ImageUnavailable(f"{shown} took longer than {self._timeout_s:g} s") from err
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as err:
            raise ImageUnavailable(f"{shown} could not be fetched") from err

    async def _get(self, target: httpx.URL) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            async with self._pool.stream(
                "GET", pool_url(target), headers=[("host", target.netloc), *_HEADERS]
            ) as response:
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


def _shown(target: httpx.URL) -> str:
    """A URL for a sentence: without its query, which may be secret, and not endless."""
    url = str(target.copy_with(query=None, fragment=None))
    return url if len(url) <= _MOST_SHOWN else f"{url[:_MOST_SHOWN]}…"


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
