"""Signatures of callbacks, as Standard Webhooks 1.0 (standardwebhooks.com) has them.

The signed text is `<id>.<timestamp>.<body>`, keyed with the bytes behind `whsec_` in base64; the header holds one
`v1,<base64 of HMAC-SHA256>` for each secret that is in force, so that receivers go on verifying while one is replaced.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from shared.errors import InvalidRequest

_PREFIX = "whsec_"
#: The specification's bounds of a secret, in bytes.
_LEAST_BYTES, _MOST_BYTES = 24, 64
#: A secret as a pattern: groups of three bytes, of which the last may have one or two.
_GROUP = "[A-Za-z0-9+/]"
SECRET_PATTERN = f"^{_PREFIX}(({_GROUP}{{4}}){{8,21}}({_GROUP}{{2}}==)?|({_GROUP}{{4}}){{8,20}}{_GROUP}{{3}}=)$"
_SECRET = re.compile(SECRET_PATTERN)


def new_secret() -> str:
    """A fresh secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """A caller's own secret, if it is one.

    Raises:
        InvalidRequest: It is not; the secret is not repeated.
    """
    if _SECRET.fullmatch(secret) is None:
        raise InvalidRequest(
            f"a webhook's secret is whsec_ and {_LEAST_BYTES} to {_MOST_BYTES} bytes in base64", param="webhook"
        )
    return secret


def headers(event_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The three headers of an attempt.

    Args:
        event_id: The same for each attempt: what a receiver knows repetitions by.
        timestamp: Of this attempt, Unix seconds.
        body: As it is sent.
        keys: The secrets in force.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    signatures = [hmac.digest(_key(secret), signed, hashlib.sha256) for secret in keys]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures),
    }


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX))
