"""Searches that go on while the service is stopped, each on a connection of its own, and what became of each."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

_CONCURRENCY = 16
_TIMEOUT_S = 40.0
#: Between two attempts where nobody listens, in seconds.
_PAUSE_S = 0.05


@dataclass
class Outcomes:
    """What the requests got."""

    counts: Counter[str] = field(default_factory=Counter)
    #: The slowest answer, in seconds.
    slowest_s: float = 0.0

    @property
    def lost(self) -> int:
        """Requests that were sent and neither answered rightly nor refused in words."""
        return sum(number for name, number in self.counts.items() if name not in ("answered", "refused"))


class Load:
    """Requests until told to stop; an event loop runs it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = asyncio.Event()
        self.outcomes = Outcomes()

    async def run(self) -> None:
        """Send until `end`."""
        await asyncio.gather(*(self._ask(number) for number in range(_CONCURRENCY)))

    def end(self) -> None:
        """Send nothing more."""
        self._ended.set()

    async def _ask(self, number: int) -> None:
        count = 0
        while not self._ended.is_set():
            count += 1
            outcome = await self._one(f"Client {number} asks for the {count}th time. " * (1 + count % 20))
            self.outcomes.counts[outcome] += 1
            if outcome == "refused":
                await asyncio.sleep(_PAUSE_S)

    async def _one(self, text: str) -> str:
        started = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
                answer = await client.post(f"{self._url}/embed", json={"inputs": text})
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return "refused"
        except httpx.HTTPError as err:
            return f"lost: {err!r}"
        self.outcomes.slowest_s = max(self.outcomes.slowest_s, time.monotonic() - started)
        if answer.status_code == 503:
            return "refused"
        if answer.status_code == 200 and len(answer.json()[0]) == 384:
            return "answered"
        return f"lost: {answer.status_code} {answer.text[:200]}"
