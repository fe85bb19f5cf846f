"""Batches on the real stack and the real model, by OpenAI's own client as its documentation uses it."""

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from tests.helpers.service import Service

MODEL = "all-MiniLM-L6-v2"
LINES = 3000
#: Beyond what the model reads.
TOO_LONG = "word " * 2000
#: Bodies that cannot be answered, by the number of their line, each with its status.
BAD: dict[int, tuple[dict[str, Any], int]] = {
    7: ({"model": MODEL, "input": ""}, 400),
    300: ({"model": "nobody/serves-this", "input": "a"}, 404),
    511: ({"model": MODEL, "input": TOO_LONG, "truncate": False}, 400),
    512: ({"model": MODEL, "input": 12.5}, 400),
    600: ({"model": MODEL, "input": "a", "dimensions": 385}, 400),
    1000: ({"model": MODEL}, 400),
    1001: ({"model": MODEL, "input": []}, 400),
    1023: ({"model": MODEL, "input": "a", "encoding_format": "octal"}, 400),
    2000: ({"model": MODEL, "input": ["fine", ""]}, 400),
    2999: ({"model": MODEL, "input": ["a"] * 2049}, 413),
}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterable[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key="unused", timeout=60) as client:
        yield client


def text(number: int) -> str:
    return (
        f"Document {number} is about {('rivers', 'mills', 'races', 'grain')[number % 4]} and the year {1000 + number}."
    )


def line(number: int, body: dict[str, Any], url: str = "/v1/embeddings") -> bytes:
    return json.dumps({"custom_id": f"line-{number}", "method": "POST", "url": url, "body": body}).encode()


def upload(client: OpenAI, lines: Iterable[bytes]) -> str:
    return client.files.create(file=("batch.jsonl", b"\n".join(lines)), purpose="batch").id


def waited(client: OpenAI, batch_id: str, until: Callable[[Batch], bool], timeout_s: float = 240) -> Batch:
    """The batch as soon as something is true of it."""
    deadline = time.monotonic() + timeout_s
    while not until(batch := client.batches.retrieve(batch_id)):
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
    return batch


def has_ended(batch: Batch) -> bool:
    return batch.status in {"completed", "failed", "cancelled", "expired"}


def entries(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of an output file."""
    assert file_id is not None
    return [json.loads(entry) for entry in client.files.content(file_id).text.splitlines()]


def test_three_thousand_lines_of_which_ten_are_bad(client: OpenAI, service: Service) -> None:
    # Given
    good = {number: {"model": MODEL, "input": text(number)} for number in range(LINES) if number not in BAD}
    bodies = {**good, **{number: body for number, (body, _) in BAD.items()}}
    input_file = upload(client, (line(number, bodies[number]) for number in range(LINES)))

    # When
    created = client.batches.create(
        input_file_id=input_file, endpoint="/v1/embeddings", completion_window="24h", metadata={"run": "nightly"}
    )
    seen: list[int] = []

    def watched(batch: Batch) -> bool:
        assert batch.request_counts is not None
        assert batch.request_counts.completed + batch.request_counts.failed <= LINES
        seen.append(batch.request_counts.completed)
        return has_ended(batch)

    batch = waited(client, created.id, watched)

    # Then the batch says what became of it
    assert created.status == "validating"
    assert batch.status == "completed"
    assert batch.metadata == {"run": "nightly"}
    assert batch.errors is None
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (LINES, LINES - len(BAD), len(BAD))
    assert seen == sorted(seen)
    assert batch.in_progress_at is not None
    assert batch.finalizing_at is not None
    assert batch.completed_at is not None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.id in [entry.id for entry in client.batches.list(limit=5)]

    # And every good line has the vector of the synchronous route
    outputs = {entry["custom_id"]: entry for entry in entries(client, batch.output_file_id)}
    assert outputs.keys() == {f"line-{number}" for number in good}
    assert len({entry["id"] for entry in outputs.values()}) == len(outputs)
    assert all(entry["error"] is None and entry["response"]["status_code"] == 200 for entry in outputs.values())
    numbers = sorted(good)
    vectors = np.array([outputs[f"line-{number}"]["response"]["body"]["data"][0]["embedding"] for number in numbers])
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        answer = client.embeddings.create(model=MODEL, input=[text(number) for number in some])
        expected = np.array([entry.embedding for entry in answer.data])
        np.testing.assert_allclose(vectors[start : start + 500], expected, atol=1e-5)
    assert batch.usage is not None
    tokens = sum(entry["response"]["body"]["usage"]["total_tokens"] for entry in outputs.values())
    assert (batch.usage.input_tokens, batch.usage.total_tokens) == (tokens, tokens)

    # And every bad one the error of the synchronous route
    errors = {entry["custom_id"]: entry for entry in entries(client, batch.error_file_id)}
    assert errors.keys() == {f"line-{number}" for number in BAD}
    with service.client() as http:
        for number, (body, status) in BAD.items():
            entry, refused = errors[f"line-{number}"], http.post("/v1/embeddings", json=body)
            assert entry["error"] is None
            assert entry["line"] == number + 1
            assert entry["response"]["status_code"] == refused.status_code == status, number
            assert entry["response"]["body"] == refused.json()

    # And the files go when they are deleted
    for file_id in (input_file, batch.output_file_id, batch.error_file_id):
        assert file_id is not None
        client.files.delete(file_id)
        with pytest.raises(openai.NotFoundError):
            client.files.content(file_id)


def test_lines_may_ask_for_base64_and_for_many_vectors(client: OpenAI) -> None:
    inputs = [text(number) for number in range(40)]
    body = {"model": MODEL, "input": inputs, "encoding_format": "base64", "dimensions": 64}
    batch_id = client.batches.create(
        input_file_id=upload(client, [line(0, body)]), endpoint="/v1/embeddings", completion_window="24h"
    ).id

    (entry,) = entries(client, waited(client, batch_id, has_ended).output_file_id)

    data = entry["response"]["body"]["data"]
    vectors = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in data]
    expected = client.embeddings.create(model=MODEL, input=inputs, dimensions=64)
    np.testing.assert_allclose(vectors, [row.embedding for row in expected.data], atol=1e-5)


def test_a_batch_of_rankings(service: Service, client: OpenAI) -> None:
    # Given, in Voyage's words, what all lines have in common
    documents = ["The mill stands by the river.", "Stock prices fell.", "Water drives the wheel."]
    queries = {"a": "Where is the mill?", "b": "What drives the wheel?"}
    lines = [{"custom_id": name, "body": {"query": query}} for name, query in queries.items()]
    request_params = {"model": MODEL, "documents": documents, "top_n": 2}
    file_id = upload(client, (json.dumps(entry).encode() for entry in lines))

    # When
    with service.client() as http:
        created = http.post(
            "/v1/batches",
            json={"input_file_id": file_id, "endpoint": "/v1/rerank", "request_params": request_params},
        ).json()
        batch = waited(client, created["id"], has_ended)
        expected = {
            name: http.post("/v1/rerank", json={**request_params, "query": query}).json()
            for name, query in queries.items()
        }

    # Then each is ranked as the synchronous route ranks it
    assert created["model"] == MODEL
    assert batch.status == "completed", batch.errors
    for entry in entries(client, batch.output_file_id):
        results, wanted = entry["response"]["body"]["results"], expected[entry["custom_id"]]["results"]
        assert [result["index"] for result in results] == [result["index"] for result in wanted]
        scores = [result["relevance_score"] for result in results]
        assert scores == pytest.approx([result["relevance_score"] for result in wanted], abs=1e-4)


@pytest.mark.parametrize("endpoint", ["/embed", "/v1/score"])
def test_requests_may_come_in_the_body(service: Service, client: OpenAI, endpoint: str) -> None:
    body = {"/embed": {"inputs": "a"}, "/v1/score": {"model": MODEL, "text_1": "a mill", "text_2": "a river"}}[endpoint]

    with service.client() as http:
        created = http.post(
            "/v1/batches", json={"requests": [{"custom_id": "only", "body": body}], "endpoint": endpoint}
        ).json()
        batch = waited(client, created["id"], has_ended)
        expected = http.post(endpoint, json=body)

    (entry,) = entries(client, batch.output_file_id)
    assert (entry["custom_id"], entry["response"]["status_code"]) == ("only", expected.status_code)


def test_a_file_with_faults_fails_its_batch_with_their_lines(client: OpenAI) -> None:
    lines = [line(0, {"model": MODEL, "input": "a"}), b"{", line(0, {"model": MODEL, "input": "b"})]

    batch_id = client.batches.create(
        input_file_id=upload(client, lines), endpoint="/v1/embeddings", completion_window="24h"
    ).id
    batch = waited(client, batch_id, has_ended)

    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or []] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_a_cancelled_batch_keeps_what_it_has(client: OpenAI) -> None:
    # Given a batch of which a part is done
    count = 6000
    lines = (line(number, {"model": MODEL, "input": f"{text(number)} {text(number)}"}) for number in range(count))
    batch_id = client.batches.create(
        input_file_id=upload(client, lines), endpoint="/v1/embeddings", completion_window="24h"
    ).id
    waited(client, batch_id, lambda batch: batch.request_counts is not None and batch.request_counts.completed > 0)

    # When
    cancelling = client.batches.cancel(batch_id)
    batch = waited(client, batch_id, has_ended, timeout_s=60)

    # Then what was done can be read, and what was not is named
    assert cancelling.status in {"cancelling", "cancelled"}
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    done, undone = entries(client, batch.output_file_id), entries(client, batch.error_file_id)
    assert done
    assert undone
    assert all(entry["response"] is None and entry["error"]["code"] == "batch_cancelled" for entry in undone)
    times = Counter(entry["custom_id"] for entry in (*done, *undone))
    assert times == Counter(f"line-{number}" for number in range(count))
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (len(done), len(undone))

    # And cancelling it again changes nothing
    assert client.batches.cancel(batch_id) == batch


def test_the_example_of_the_documentation_runs(service: Service, client: OpenAI) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text()
    example = re.search(r"```python\n(.*?)```", page.partition("## Batches")[2], re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}

    exec(example[1].replace("http://127.0.0.1:8080", service.url), names)

    answer = client.embeddings.create(model=MODEL, input=names["texts"])
    for number, expected in enumerate(answer.data):
        np.testing.assert_allclose(names["vectors"][f"text-{number}"], expected.embedding, atol=1e-5)
    names["client"].close()


def test_the_routes_are_in_the_documentation(service: Service) -> None:
    with service.client() as http:
        paths = http.get("/openapi.json").json()["paths"]

    assert {"/v1/files", "/v1/files/{file_id}/content", "/v1/batches", "/v1/batches/{batch_id}/cancel"} <= paths.keys()
