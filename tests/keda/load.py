"""Load that does not wait for its answers: requests leave at their times, whatever becomes of those before them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    sent_at: float
    seconds: float
    status: int
    rows: int


async def steady(url: str, *, per_s: float, for_s: float, texts: Sequence[str]) -> list[Answer]:
    """Send requests of these texts at a steady rate, and wait for all answers."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=240.0, trust_env=False, limits=limits) as client:

        async def ask() -> Answer:
            started = time.monotonic()
            response = await client.post("/embed", json={"inputs": list(texts)})
            rows = len(response.json()) if response.status_code == 200 else 0
            return Answer(started, time.monotonic() - started, response.status_code, rows)

        asked: list[asyncio.Task[Answer]] = []
        began = time.monotonic()
        for number in range(int(per_s * for_s)):
            await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
            asked.append(asyncio.create_task(ask()))
        return list(await asyncio.gather(*asked))
