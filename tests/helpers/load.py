"""Load on a gateway: many requests at a time, each answer kept."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got."""

    text: str
    status: int
    body: object
    seconds: float


async def embed_all(
    url: str,
    texts: Sequence[str],
    *,
    concurrency: int,
    timeout_s: float,
    during: Callable[[], Awaitable[None]] | None = None,
) -> list[Answer]:
    """Embed each text in a request of its own.

    Args:
        url: The gateway.
        texts: One request each.
        concurrency: How many are under way at a time.
        timeout_s: Deadline of each, which the gateway is told; the client waits a little longer for its answer.
        during: Runs beside the load, to break something.
    """
    waiting = iter(texts)
    answers: list[Answer] = []
    # A client for each connection: a pool looks through all of its connections for every request.
    unused = ssl.create_default_context()

    async def work() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=timeout_s + 10, verify=unused, trust_env=False) as client:
            for text in waiting:
                started = time.perf_counter()
                response = await client.post(
                    "/embed", json={"inputs": text}, headers={"x-request-timeout": str(timeout_s)}
                )
                answers.append(Answer(text, response.status_code, response.json(), time.perf_counter() - started))

    beside = asyncio.ensure_future(during()) if during else None
    await asyncio.gather(*(work() for _ in range(concurrency)))
    if beside:
        await beside
    return answers
