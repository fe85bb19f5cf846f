"""Routes: one path may be served by several dialects, and the body decides whose words are spoken."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

import api.dialects
from api.app import create_app
from api.endpoint import _choose
from api.settings import ApiSettings
from shared.errors import InvalidRequest
from shared.plugins import discover

DIALECTS = discover(api.dialects)
CONTENDERS = [(dialect, route) for dialect in DIALECTS.values() for route in dialect.routes if route.path == "/rerank"]


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The real application, not started: it connects to nothing, so only what needs no worker can be asked."""
    return TestClient(create_app(ApiSettings()))


@pytest.mark.parametrize(
    ("body", "dialect"),
    [
        ({"query": "q", "documents": ["a"]}, "cohere"),
        ({"query": "q", "documents": [{"text": "a"}], "top_n": 1}, "cohere"),
        ({"query": "q", "texts": ["a"]}, "tei"),
        ({"query": "q", "texts": ["a"], "top_n": 1, "model": "m"}, "tei"),
        ({"documents": 5}, "cohere"),
        ({"texts": None}, "tei"),
    ],
)
def test_the_body_of_a_rerank_request_decides_the_dialect(body: dict[str, Any], dialect: str) -> None:
    chosen, route = _choose(CONTENDERS, body)

    assert chosen.name == dialect
    assert route.path == "/rerank"


@pytest.mark.parametrize("body", [{}, {"query": "q"}, {"query": "q", "texts": ["a"], "documents": ["a"]}])
def test_a_body_in_nobodys_or_in_two_dialects_words_is_refused_with_the_words_that_there_are(
    body: dict[str, Any],
) -> None:
    with pytest.raises(InvalidRequest, match="query, documents, top_n or query, texts"):
        _choose(CONTENDERS, body)


def test_every_example_of_a_contested_path_is_claimed_by_exactly_its_own_dialect() -> None:
    paths = [route.path for dialect in DIALECTS.values() for route in dialect.routes]
    for dialect in DIALECTS.values():
        for route in dialect.routes:
            if paths.count(route.path) > 1:
                claiming = [other.name for other in DIALECTS.values() if other.claims(route.example)]
                assert claiming == [dialect.name], route.path


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_error_is_rendered_in_the_words_of_the_dialect_that_was_spoken(client: TestClient, slash: str) -> None:
    tei = client.post(f"/rerank{slash}", json={"query": "q", "texts": []})
    cohere = client.post(f"/rerank{slash}", json={"query": "q", "documents": []})

    assert (tei.status_code, tei.json()["error_type"]) == (400, "Empty")
    assert (cohere.status_code, cohere.json()["error"]["code"]) == (400, "empty_input")


@pytest.mark.parametrize("path", sorted({route.path for dialect in DIALECTS.values() for route in dialect.routes}))
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"input": "\\ud800"}'])
def test_a_body_that_is_not_a_json_object_is_refused_on_every_route(
    client: TestClient, path: str, content: bytes
) -> None:
    response = client.post(path, content=content)

    assert response.status_code in {400, 422}
    assert "the body" in response.json()["message"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", sorted({route.path for dialect in DIALECTS.values() for route in dialect.routes}))
def test_every_route_is_documented_with_an_example(client: TestClient, path: str) -> None:
    post = client.get("/openapi.json").json()["paths"][path]["post"]

    assert post["requestBody"]["content"]["application/json"]["examples"]
    assert post["summary"]
    assert f"{path}/" not in client.get("/openapi.json").json()["paths"]


def test_a_field_of_the_wrong_type_is_named(client: TestClient) -> None:
    response = client.post("/v1/embeddings", json={"input": ["a"], "dimensions": "many"})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "dimensions"


@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "nan", "1e9"])
def test_a_timeout_that_makes_no_sense_is_refused(client: TestClient, timeout: str) -> None:
    response = client.post("/v1/embeddings", json={"input": "a"}, headers={"x-request-timeout": timeout})

    assert response.status_code == 400
    assert "x-request-timeout" in response.json()["error"]["message"]


def test_an_unknown_lane_is_refused_with_the_lanes_that_there_are(client: TestClient) -> None:
    response = client.post("/v1/embeddings", json={"input": "a"}, headers={"x-millrace-lane": "fast"})

    assert response.status_code == 400
    assert "interactive, bulk" in response.json()["error"]["message"]


def test_a_callers_request_id_is_echoed_unless_it_could_break_a_log(client: TestClient) -> None:
    good = client.post("/v1/embeddings", content=b"", headers={"x-request-id": "caller-7"})
    bad = client.post("/v1/embeddings", content=b"", headers={"x-request-id": "a b"})

    assert good.headers["x-request-id"] == "caller-7"
    assert bad.headers["x-request-id"] != "a b"


def test_too_many_inputs_are_refused_before_anything_is_queued(client: TestClient) -> None:
    texts = ["a"] * (ApiSettings().max_client_batch_size + 1)

    response = client.post("/v1/embeddings", json={"input": texts})

    assert response.status_code == 413
    assert "batch of 2049 inputs exceeds 2048" in response.json()["error"]["message"]


def test_an_oversized_body_is_refused() -> None:
    client = TestClient(create_app(ApiSettings(body_limit_bytes=1024)))

    response = client.post("/v1/embeddings", json={"input": "a" * 1100})

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_a_process_that_has_no_redis_is_alive_and_not_ready(client: TestClient) -> None:
    assert client.get("/health").status_code == 200
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()["redis"]) == (503, False)
