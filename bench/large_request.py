"""`python -m bench.large_request`: a client of large requests, a measuring process. Bodies are made before they are sent."""

import base64
import http.client
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from bench.commands import answer_commands

_TIMEOUT_S = 300.0


def _many(number: int, size: int) -> str:
    """So many texts of so many characters."""
    return ", ".join(f'"{index:04}{"x" * (size - 4)}"' for index in range(number))


def _embeddings(texts: str, more: str = "") -> tuple[str, bytes]:
    return "/v1/embeddings", f'{{"input": [{texts}]{more}}}'.encode()


def _images() -> tuple[str, bytes]:
    noise = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(1_500_000)).decode()
    return _embeddings(", ".join(f'{{"image": "data:image/png;base64,{noise}"}}' for _ in range(32)))


def _documents() -> tuple[str, bytes]:
    return "/v1/rerank", f'{{"query": "Which mill?", "documents": [{_many(1000, 60_000)}]}}'.encode()


_BASE64 = ', "encoding_format": "base64"'
#: Path and body of each case.
CASES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "2,048 texts of 31 kB, base64": lambda: _embeddings(_many(2048, 31_000), _BASE64),
    "2,048 texts of 31 kB, JSON floats": lambda: _embeddings(_many(2048, 31_000)),
    "2,048 short texts, JSON floats": lambda: _embeddings(_many(2048, 10)),
    "1,000 documents of 60 kB": _documents,
    "1 text of 60 MB": lambda: _embeddings(f'"{"x" * 60_000_000}"'),
    "1 text of 60 MB, three bytes a letter": lambda: _embeddings(f'"{"水" * 20_000_000}"'),
    "1 text of 60 MB, all of it escaped": lambda: _embeddings('"' + "\\u6c34" * 10_000_000 + '"'),
    "1,000 lists of 1,000 token ids": lambda: _embeddings(", ".join(["[" + "101," * 999 + "102]"] * 1000), _BASE64),
    "64 MiB of token ids": lambda: _embeddings(", ".join(["[" + "101," * 8191 + "102]"] * 2047)),
    "1,000,000 texts in lists": lambda: _embeddings(", ".join(['["a"' + ',"a"' * 119 + "]"] * 8192)),
    "64 MiB of nested lists": lambda: _embeddings("[" * (64 * 1024 * 1024 - 100)),
    "32 base64 images of 2 MB": _images,
}


@lru_cache(maxsize=1)
def _body(case: str) -> tuple[str, bytes]:
    return CASES[case]()


def _send(port: int, case: str) -> dict[str, Any]:
    """Send a case; its status, size and duration."""
    path, body = _body(case)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    headers = {"content-type": "application/json", "x-request-timeout": str(int(_TIMEOUT_S))}
    started = time.perf_counter()
    with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer is there to be read
        connection.request("POST", path, body, headers)
    response = connection.getresponse()
    answer = response.read()
    seconds = time.perf_counter() - started
    connection.close()
    return {
        "status": response.status,
        "sent": len(body),
        "received": len(answer),
        "seconds": seconds,
        "head": answer[:200].decode(),
    }


def _prepare() -> dict[str, Callable[..., Any]]:
    return {"make": lambda case: len(_body(case)[1]), "send": _send}


if __name__ == "__main__":
    answer_commands(_prepare)
