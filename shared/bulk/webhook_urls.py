"""Which URLs callbacks may be sent to, as far as can be told without a connection."""

import ipaddress
import re

import httpx

from shared.addresses import AllowedHosts, is_public
from shared.errors import InvalidRequest

DEFAULT_PORTS = {"https": 443, "http": 80}
#: In characters.
LONGEST_URL = 2048
#: Part of a host in the form in which it is looked up (RFC 1035, and underscores, which are in use inside of networks).
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253


def checked_url(url: str, allowed: AllowedHosts) -> str:
    """A URL that callbacks may be sent to, as far as can be told without a connection.

    What the host's addresses are is checked when it is connected to (`shared.addresses`).

    Raises:
        InvalidRequest: It is not; the sentence repeats nothing that may be secret.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.host
    except (httpx.InvalidURL, UnicodeError):
        parsed, host = httpx.URL(), ""
    if len(url) > LONGEST_URL or parsed.scheme not in DEFAULT_PORTS or not host:
        raise InvalidRequest(f"a webhook's URL is https://... of at most {LONGEST_URL} characters", param="url")
    port = parsed.port or DEFAULT_PORTS[parsed.scheme]
    if parsed.userinfo or port not in range(1, 65_536):
        raise InvalidRequest("a webhook's URL has no user name, no password and a valid port", param="url")
    address = _address(host)
    if address is None and not _is_host_name(parsed.raw_host.decode("ascii")):
        raise InvalidRequest("the host of the webhook's URL is no name and no address", param="url")
    if allowed.names(host, port) or (address is not None and allowed.holds(address)):
        return url
    if parsed.scheme == "http" and (address is not None or not allowed.has_networks):
        raise InvalidRequest("a webhook's URL is https://...; an operator can allow http for its host", param="url")
    if (address is not None and not is_public(address)) or host.lower() == "localhost":
        raise InvalidRequest("the webhook's host is not public; an operator can allow it", param="url")
    return url


def _is_host_name(host: str) -> bool:
    """Whether a name could be looked up: one that never can would be tried again for days."""
    name = host.removesuffix(".")
    return len(name) <= _LONGEST_NAME and all(_LABEL.fullmatch(label) for label in name.split("."))


def _address(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
