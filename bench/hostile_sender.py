"""`python -m bench.hostile_sender`: a client that means no good, or well, a measuring process.

Requests are made before they are sent.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.commands import answer_commands
from bench.services import get_json
from tests.helpers.hostile import Hostile, harmless_requests, hostile_requests
from tests.helpers.raw_http import exchange, leave

_PATIENCE_S = 120.0
_MAKERS: dict[str, Callable[..., Iterator[Hostile]]] = {"hostile": hostile_requests, "harmless": harmless_requests}
#: What the next command sends.
_waiting: list[Hostile] = []


def make(port: int, kind: str, seed: int, count: int) -> int:
    """Make requests for the routes that a service documents."""
    _waiting[:] = _MAKERS[kind](get_json(port, "/openapi.json"), seed=seed, count=count)
    return len(_waiting)


def send(port: int, in_flight: int) -> dict[str, Any]:
    """Send them, so many at a time; statuses of the answers, and how many connections were not closed in time."""
    return asyncio.run(_send(port, in_flight))


async def _send(port: int, in_flight: int) -> dict[str, Any]:
    statuses: Counter[int] = Counter()
    hanging = 0
    waiting = iter(_waiting)

    async def client() -> None:
        nonlocal hanging
        for request in waiting:
            if not request.stays:
                await leave(port, request.pieces)
                continue
            answer = await exchange(port, request.pieces, patience_s=_PATIENCE_S)
            statuses.update(answer.statuses)
            hanging += not answer.closed

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(client())
    return {"statuses": dict(sorted(statuses.items())), "hanging": hanging}


def _prepare() -> Mapping[str, Callable[..., Any]]:
    return {"make": make, "send": send}


if __name__ == "__main__":
    answer_commands(_prepare)
