"""API keys: random text that only its holder knows; the service keeps its SHA-256.

A key has 256 random bits, so that its hash needs neither salt nor a slow function: there is nothing to guess.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator

#: What a key begins with, so that scanners for secrets find one that was committed.
PREFIX = "mr_"
#: Longest text that is taken for a key, in bytes.
_LONGEST = 512
_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})
_BEARER = b"bearer "


def new_key() -> str:
    """A fresh key."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def presented(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The keys that a request brings: `Authorization`, with or without `Bearer`, `X-API-Key` and `api-key`.

    Args:
        headers: Of the request, their names in lower case.
    """
    for name, value in headers:
        if name in _HEADERS and len(value) <= _LONGEST:
            key = value.strip()
            if name == b"authorization" and key[: len(_BEARER)].lower() == _BEARER:
                key = key[len(_BEARER) :].strip()
            if key and key.lower() != _BEARER.strip():
                yield key
