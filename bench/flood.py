"""`python -m bench.flood`: more requests than a service can answer, a measuring process.

Requests come at an even rate, whether or not earlier ones have been answered, each on a connection of its own, as those of
strangers do. Nobody tries again.
"""

import asyncio
import base64
import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import uvloop

from bench.commands import answer_commands
from bench.load import EMBEDDINGS_PATH
from bench.measurement import percentile
from bench.texts import texts_of

#: How long after its deadline an answer is waited for, in seconds.
_PATIENCE_S = 30.0
#: Of so many answers one is looked at closely.
_CHECK_EVERY = 16


class _Flood:
    """What came back."""

    def __init__(self, port: int, texts: int, timeout_s: float) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._texts = texts
        every = texts_of("short")
        groups = [every[start : start + texts] for start in range(0, len(every) - texts + 1, texts)]
        self._bodies = [orjson.dumps({"input": group, "encoding_format": "base64"}) for group in groups]
        self.statuses: Counter[int] = Counter()
        self.answered_s: list[float] = []
        self.refused_s: list[float] = []
        self.retry_after_s: list[float] = []

    async def request(self, number: int) -> None:
        """Send one request and note what becomes of it; status 0 where there was no answer."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s + _PATIENCE_S):
                status, headers, body = await self._exchange(self._bodies[number % len(self._bodies)])
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.statuses[0] += 1
            return
        took_s = time.perf_counter() - started
        self.statuses[status] += 1
        if status == 200:
            self.answered_s.append(took_s)
            if len(self.answered_s) % _CHECK_EVERY == 0:
                self._check(body)
        elif status == 429:
            self.refused_s.append(took_s)
            self.retry_after_s.append(float(headers[b"retry-after"]))

    async def _exchange(self, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = (
                f"POST {EMBEDDINGS_PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                f"x-request-timeout: {self._timeout_s}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
            return int(lines[0][9:12]), headers, await reader.readexactly(int(headers[b"content-length"]))
        finally:
            writer.close()

    def _check(self, body: bytes) -> None:
        vectors = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in orjson.loads(body)["data"]]
        if len(vectors) != self._texts or not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("an answer is wrong")


async def _flood(port: int, rate_per_s: float, seconds: float, texts: int, timeout_s: float) -> dict[str, Any]:
    """The flood; what came back, and when the last answer did."""
    flood = _Flood(port, texts, timeout_s)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate_per_s * seconds)):
            if (ahead := started + number / rate_per_s - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            group.create_task(flood.request(number))
    return {
        "offered_per_s": rate_per_s,
        "seconds": seconds,
        "until_last_s": time.perf_counter() - started,
        "statuses": {str(status): count for status, count in sorted(flood.statuses.items())},
        "answered_ms": _summary([1000 * took for took in flood.answered_s]),
        "refused_ms": _summary([1000 * took for took in flood.refused_s]),
        "retry_after_s": _summary(flood.retry_after_s),
    }


def _summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {"count": 0}
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return {"count": len(values), "p50": round(p50, 1), "p99": round(p99, 1), "max": round(max(values), 1)}


def _prepare() -> dict[str, Callable[..., Any]]:
    gc.freeze()
    return {"flood": lambda **arguments: uvloop.run(_flood(**arguments))}


if __name__ == "__main__":
    answer_commands(_prepare)
