"""Interactive load: requests at a fixed rate, whatever becomes of those before, each on a connection of its own.

A connection of its own, because its end then tells of one request only, and because whatever comes after the answer is seen.
"""

import asyncio
import random
import time
from collections.abc import Sequence

import orjson

from tests.chaos.ledger import Answer, Ledger
from tests.chaos.texts import MODEL, TEXTS, Vectors, decoded, is_close
from tests.helpers import raw_http

REQUESTS_PER_S = 30
#: Deadlines of requests, in seconds: some end while a part starts again, some outlast that.
_DEADLINES_S = (2, 5, 10)
_MOST_TEXTS = 3
#: How long after its deadline a request is still listened for, so that late is told from lost, in seconds.
_PATIENCE_S = 20.0
#: How long after an answer its connection is watched for another, in seconds.
_WATCH_S = 2.0


class Load:
    """Sends requests and writes down what becomes of them."""

    def __init__(self, port: int, ledger: Ledger, vectors: Vectors, *, seed: int) -> None:
        """Describe the load.

        Args:
            port: Of the gateway, on this machine.
            ledger: What happens is noted there.
            vectors: Of all texts.
            seed: Of the choice of texts and deadlines.
        """
        self._port = port
        self._ledger = ledger
        self._vectors = vectors
        self._dice = random.Random(seed)

    async def run(self, seconds: float) -> None:
        """Send for so long, then wait for what is still to come."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for number in range(round(seconds * REQUESTS_PER_S)):
                await asyncio.sleep(begin + number / REQUESTS_PER_S - time.monotonic())
                texts = self._dice.sample(range(len(TEXTS)), self._dice.randint(1, _MOST_TEXTS))
                requests.create_task(self._ask(texts, self._dice.choice(_DEADLINES_S), self._dice.random() < 0.5))

    async def _ask(self, texts: Sequence[int], deadline_s: int, is_base64: bool) -> None:
        body = {
            "model": MODEL,
            "input": [TEXTS[text] for text in texts],
            "encoding_format": "base64" if is_base64 else "float",
        }
        headers = (b"content-type: application/json", b"x-request-timeout: %d" % deadline_s)
        request = raw_http.post("/v1/embeddings", orjson.dumps(body), *headers)
        number = self._ledger.sent(time.monotonic(), deadline_s)
        received, answered_at, how = b"", None, "silence"
        try:
            async with asyncio.timeout(deadline_s + _PATIENCE_S) as patience:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(request)
                    while chunk := await reader.read(1 << 16):
                        received += chunk
                        if answered_at is None and _is_whole(received):
                            answered_at = time.monotonic()
                            patience.reschedule(asyncio.get_running_loop().time() + _WATCH_S)
                    how = "closed"
                finally:
                    writer.transport.abort()
        except TimeoutError:
            pass  # which `how` tells
        except ConnectionRefusedError:
            how = "refused"
        except OSError:
            how = "reset"
        if answered_at is None:
            self._ledger.failed(number, time.monotonic(), how)
            return
        for response in raw_http.parsed(received):
            self._ledger.answered(number, self._read(response, answered_at, texts))

    def _read(self, response: raw_http.Response, at: float, texts: Sequence[int]) -> Answer:
        content = orjson.loads(response.body)
        if response.status == 200:
            rows = [decoded(row["embedding"]) for row in content["data"]]
            places = [row["index"] for row in content["data"]]
            is_right = places == list(range(len(texts))) and all(
                is_close(row, self._vectors[text]) for row, text in zip(rows, texts, strict=True)
            )
            return Answer(at, 200, is_right=is_right)
        message = content.get("error", {}).get("message", "")
        return Answer(at, response.status, response.headers["retry-after"], message)


def _is_whole(received: bytes) -> bool:
    if b"\r\n\r\n" not in received:
        return False
    try:
        return bool(raw_http.parsed(received))
    except ValueError:
        return False
