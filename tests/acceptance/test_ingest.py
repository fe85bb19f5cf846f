"""Documents in, vectors out: the real service with its real model, against the synchronous route."""

import base64
import http.client
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
import numpy as np
import orjson
import pytest

from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

TEXTS = [f"The {colour} {animal} number {n}. " * (1 + n % 7) for n, (colour, animal) in enumerate(
    (colour, animal) for colour in ("red", "blue", "green", "grey") for animal in ("fox", "owl", "bear", "carp", "mole")
)]  # fmt: skip
STREAM = {"accept": "application/x-ndjson", "content-type": "application/x-ndjson"}


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    """A client of the service."""
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def expected(service: Service) -> np.ndarray:
    """What the synchronous route says."""
    with service.client() as client:
        data = client.post("/v1/embeddings", json={"input": TEXTS, "input_type": "document"}).json()["data"]
    return np.array([entry["embedding"] for entry in data], "f4")


def body(texts: list[str]) -> bytes:
    """Documents with ids and metadata."""
    return b"".join(
        orjson.dumps({"id": f"doc-{n}", "text": text, "metadata": {"n": n}}) + b"\n" for n, text in enumerate(texts)
    )


def finished(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job when it has ended."""
    told = client.get(f"/v1/jobs/{job_id}/events", timeout=60).text
    job: dict[str, Any] = orjson.loads(told.rpartition("event: end")[2].partition("data: ")[2])
    return job


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The lines of an answer, without signs of life."""
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines() if line]


def test_a_job_gives_the_vectors_of_the_synchronous_route(client: httpx.Client, expected: np.ndarray) -> None:
    made = client.post("/v1/ingest", content=body(TEXTS), headers={"content-type": "application/x-ndjson"})
    assert made.status_code == 202, made.text
    job = finished(client, made.json()["id"])

    assert (job["status"], job["counts"]) == ("completed", {"received": 20, "completed": 20, "failed": 0})
    assert (job["available"], job["errors"]) == (20, [])
    assert job["tokens"] > 100
    found = lines(client.get(job["results_url"].removeprefix(str(client.base_url).rstrip("/"))))
    assert [entry["index"] for entry in found] == list(range(20))
    assert [entry["id"] for entry in found] == [f"doc-{n}" for n in range(20)]
    assert [entry["metadata"] for entry in found] == [{"n": n} for n in range(20)]
    np.testing.assert_allclose([entry["embedding"] for entry in found], expected, atol=1e-5)

    in_base64 = lines(client.get(f"/v1/jobs/{job['id']}/results", params={"encoding": "base64"}))
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in in_base64]
    np.testing.assert_allclose(decoded, expected, atol=1e-5)
    unpacker = msgpack.Unpacker()
    unpacker.feed(client.get(f"/v1/jobs/{job['id']}/results", params={"encoding": "binary"}).content)
    np.testing.assert_allclose([np.frombuffer(e["embedding"], "<f4") for e in unpacker], expected, atol=1e-5)

    assert client.delete(f"/v1/jobs/{job['id']}").json()["deleted"] is True


def test_results_come_while_documents_are_still_sent(client: httpx.Client, expected: np.ndarray) -> None:
    job_id = client.post("/v1/jobs", json={"dimensions": 64}).json()["id"]
    path = f"/v1/jobs/{job_id}/documents"
    assert client.post(path, content=body(TEXTS[:7]), params={"offset": 0, "more": True}).status_code == 202
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["available"] == 7, timeout_s=30)

    followed: list[dict[str, Any]] = []

    def follow() -> None:
        followed.extend(lines(client.get(f"/v1/jobs/{job_id}/results", params={"follow": True}, timeout=60)))

    thread = threading.Thread(target=follow)
    thread.start()
    # Overlapping, as after a broken connection.
    assert client.post(path, content=body(TEXTS)[len(body(TEXTS[:5])) :], params={"offset": 5}).status_code == 202
    thread.join(60)

    assert [entry["id"] for entry in followed] == [f"doc-{n}" for n in range(20)]
    cut = expected[:, :64] / np.linalg.norm(expected[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose([entry["embedding"] for entry in followed], cut, atol=1e-5)
    assert finished(client, job_id)["status"] == "completed"


def test_bad_documents_are_errors_of_their_own(client: httpx.Client, expected: np.ndarray) -> None:
    good = body(TEXTS).splitlines(keepends=True)
    bad = [b"not json\n", b'{"id":"empty","text":""}\n', b'{"id":"none"}\n', b'["a"]\n']
    mixed = b"".join([good[0], bad[0], good[1], bad[1], bad[2], good[2], bad[3]])
    whole = {0: 0, 2: 1, 5: 2}
    codes = {1: "invalid_json", 3: "empty_input", 4: "invalid_request", 6: "invalid_request"}

    job_id = client.post("/v1/ingest", content=mixed).json()["id"]
    job = finished(client, job_id)
    assert (job["status"], job["counts"]) == ("completed", {"received": 7, "completed": 3, "failed": 4})
    of_job = lines(client.get(f"/v1/jobs/{job_id}/results"))
    *streamed, summary = lines(client.post("/v1/ingest", content=mixed, headers=STREAM))
    assert (summary["documents"], summary["failed"]) == (7, 4)
    for found in (of_job, streamed):
        assert {entry["index"]: entry["error"]["code"] for entry in found if "error" in entry} == codes
        assert [entry["id"] for entry in found] == ["doc-0", None, "doc-1", "empty", "none", "doc-2", None]
        for place, number in whole.items():
            np.testing.assert_allclose(found[place]["embedding"], expected[number], atol=1e-5)


def test_texts_that_may_not_be_cut_fail_alone(client: httpx.Client, expected: np.ndarray) -> None:
    texts = [*TEXTS[:3], "too long " * 2000, *TEXTS[3:6]]
    *streamed, summary = lines(
        client.post("/v1/ingest", content=body(texts), params={"truncate": False}, headers=STREAM)
    )
    job_id = client.post("/v1/ingest", content=body(texts), params={"truncate": False}).json()["id"]
    assert finished(client, job_id)["counts"] == {"received": 7, "completed": 6, "failed": 1}
    for found in (streamed, lines(client.get(f"/v1/jobs/{job_id}/results"))):
        assert found[3]["error"]["code"] == "context_length_exceeded"
        vectors = [entry["embedding"] for entry in found if "embedding" in entry]
        np.testing.assert_allclose(vectors, expected[:6], atol=1e-5)
    assert summary["failed"] == 1


def test_results_on_the_same_connection_are_those_of_the_synchronous_route(
    client: httpx.Client, expected: np.ndarray
) -> None:
    answer = client.post("/v1/ingest", content=body(TEXTS * 10), headers=STREAM)
    assert answer.headers["content-type"] == "application/x-ndjson"
    *found, summary = lines(answer)
    assert [entry["index"] for entry in found] == list(range(200))
    assert [entry["id"] for entry in found] == [f"doc-{n}" for n in range(200)]
    np.testing.assert_allclose([entry["embedding"] for entry in found], np.tile(expected, (10, 1)), atol=1e-5)
    assert (summary["object"], summary["documents"], summary["failed"]) == ("summary", 200, 0)
    assert summary["tokens"] > 1000
    assert [job for job in client.get("/v1/jobs").json()["data"] if job["counts"]["received"] == 200] == []


def test_one_who_asks_document_by_document_is_answered_so(service: Service, expected: np.ndarray) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.putrequest("POST", "/v1/ingest")
    for name, value in {**STREAM, "transfer-encoding": "chunked"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = None
    for number in range(5):
        line = body(TEXTS).splitlines(keepends=True)[number]
        connection.send(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        answer = answer or connection.getresponse()
        np.testing.assert_allclose(orjson.loads(answer.readline())["embedding"], expected[number], atol=1e-5)
    connection.send(b"0\r\n\r\n")
    assert answer is not None
    assert orjson.loads(answer.readline())["documents"] == 5
    connection.close()


def test_a_job_without_documents_is_completed(client: httpx.Client) -> None:
    job = finished(client, client.post("/v1/ingest", content=b"").json()["id"])
    assert (job["status"], job["counts"]["received"]) == ("completed", 0)


def test_a_cancelled_job_is_resumed_and_completed(client: httpx.Client) -> None:
    job_id = client.post("/v1/ingest", content=body(TEXTS[:12]), params={"more": True}).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert finished(client, job_id)["status"] == "cancelled"
    assert client.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "receiving"
    rest = client.post(f"/v1/jobs/{job_id}/documents", content=body(TEXTS), params={"offset": 0})
    assert rest.status_code == 202
    job = finished(client, job_id)
    assert (job["status"], job["counts"]) == ("completed", {"received": 20, "completed": 20, "failed": 0})
    indices = [entry["index"] for entry in lines(client.get(f"/v1/jobs/{job_id}/results"))]
    assert indices == list(range(20))


def test_the_example_of_the_documentation_runs(service: Service) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text()
    example = re.search(r"```python\n(.*?)```", page.partition("## Documents as a stream")[2], re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}

    exec(example[1].replace("http://127.0.0.1:8080", service.url), names)

    assert list(names["vectors"]) == [f"page-{number}" for number in range(100)]
    assert {len(vector) for vector in names["vectors"].values()} == {128}
    names["client"].close()
