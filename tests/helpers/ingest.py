"""Documents for `/v1/ingest`, and jobs of them."""

from typing import Any

import orjson

from tests.helpers.service import Service


def ndjson(count: int, text: str = "a mill stands by the water") -> bytes:
    """So many documents, of which no two are alike; their ids are their numbers."""
    return b"".join(orjson.dumps({"id": n, "text": f"{text} {n}"}) + b"\n" for n in range(count))


def submit(service: Service, count: int, **options: Any) -> str:
    """Send so many documents, with options in the query; the job's id."""
    with service.client() as client:
        answer = client.post("/v1/ingest", params=options, content=ndjson(count))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])
