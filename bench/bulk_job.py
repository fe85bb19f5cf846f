"""Bulk jobs of generated documents, for the benchmarks that run some."""

import http.client
import json
from collections.abc import Iterator

import orjson

from bench.services import BenchFailed
from bench.texts import short_texts

_PIECE_DOCUMENTS = 1000
#: A prime number, so that pieces differ.
_TEXTS = 1009


def submit(port: int, documents: int) -> str:
    """Send so many documents to `/v1/ingest`, made on the way; their ids are their numbers.

    Returns:
        The job's id.

    Raises:
        BenchFailed: They were not accepted.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"content-type": "application/x-ndjson"}
    connection.request("POST", "/v1/ingest", _lines(documents), headers, encode_chunked=True)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status != 202:
        raise BenchFailed(f"the upload was answered with {response.status}: {answer[:300].decode(errors='replace')}")
    job: str = json.loads(answer)["id"]
    return job


def _lines(documents: int) -> Iterator[bytes]:
    texts = short_texts(_TEXTS)
    for start in range(0, documents, _PIECE_DOCUMENTS):
        yield b"".join(
            orjson.dumps({"id": number, "text": texts[number % len(texts)]}, option=orjson.OPT_APPEND_NEWLINE)
            for number in range(start, min(start + _PIECE_DOCUMENTS, documents))
        )
