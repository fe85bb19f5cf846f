"""Deadlines: an absolute wall-clock time on the wire, because it must mean the same in two processes."""

import time
from datetime import UTC, datetime


def after(timeout_s: float) -> float:
    """The deadline that lies `timeout_s` seconds ahead, in Unix seconds."""
    return time.time() + timeout_s


def remaining_s(deadline: float) -> float:
    """Seconds left until `deadline` (Unix seconds); negative once it has passed."""
    return deadline - time.time()


def isoformat(deadline: float) -> str:
    """`deadline` as Celery's `expires` header wants it (ISO 8601, UTC)."""
    return datetime.fromtimestamp(deadline, UTC).isoformat()
