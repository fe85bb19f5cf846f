"""What a key may ask of models: refused in one sentence before anything is queued. The application is the real one."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import ApiSettings
from tests.helpers.keys_files import tenant, write_keys_file

MODELS = "org/first,org/second"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Of a gateway with two models and tenants that may use a part of it. There is no queue: nothing gets so far."""
    path = write_keys_file(
        tmp_path_factory.mktemp("keys") / "keys.yaml",
        tenant("models", "second-only", models=["second"]),
        tenant("nothing", "no-models", models=["org/elsewhere"]),
        tenant("routes", "rerank-only", routes=["rerank"]),
        tenant("lanes", "bulk-only", lanes=["bulk"]),
        tenant("all", "all", routes=["embed", "rerank", "classify", "tokenize", "bulk", "admin"]),
    )
    return TestClient(create_app(ApiSettings(model=MODELS, keys_file=path, request_timeout_s=0.01, access_log=False)))


def _ask(
    client: TestClient, key: str, path: str, body: dict[str, Any] | None = None, **headers: str
) -> tuple[int, str]:
    answer = client.request(
        "GET" if body is None else "POST", path, json=body, headers={"authorization": f"Bearer {key}", **headers}
    )
    return answer.status_code, answer.json().get("message", "")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/openai/deployments/first/embeddings", "/jina/v1/embeddings"])
def test_a_model_that_the_key_may_not_use_is_403_with_those_it_may(client: TestClient, path: str) -> None:
    status, message = _ask(client, "second-only", path, {"model": "first", "input": "a"})

    assert status == 403
    assert message == "this key may not use model 'first'; it may use: org/second"


def test_a_model_that_nobody_serves_is_404_that_tells_nothing_of_others(client: TestClient) -> None:
    status, message = _ask(client, "second-only", "/v1/embeddings", {"model": "third", "input": "a"})

    assert (status, message) == (404, "model 'third' is not served here; served models: org/second")


def test_without_a_name_the_first_model_is_meant_that_the_key_may_use(client: TestClient) -> None:
    # No worker has run any model, so that the first one would be meant; what cannot be queued is 503.
    status, _ = _ask(client, "second-only", "/embed", {"inputs": "a"})

    assert status in (503, 504)
    assert _ask(client, "no-models", "/embed", {"inputs": "a"})[0] == 403


def test_lists_show_the_models_that_the_key_may_use(client: TestClient) -> None:
    headers = {"authorization": "Bearer second-only"}

    assert [model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]] == ["org/second"]
    assert client.get("/info", headers=headers).json()["model_id"] == "org/second"
    assert [model["name"] for model in client.get("/api/tags", headers=headers).json()["models"]] == ["org/second"]
    assert client.get("/v1/models/first", headers=headers).status_code == 404
    assert client.get("/v1/models/second", headers=headers).status_code == 200
    everything = client.get("/v1/models", headers={"authorization": "Bearer all"}).json()["data"]
    assert [model["id"] for model in everything] == ["org/first", "org/second"]


@pytest.mark.parametrize("path", ["/v1/models", "/info", "/meta", "/api/tags"])
def test_a_key_that_may_use_no_model_is_told_so_where_models_are_shown(client: TestClient, path: str) -> None:
    assert _ask(client, "no-models", path) == (403, "this key may use none of the models that are served here")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "a"}),
        ("/embed", {"inputs": "a"}),
        ("/", {"inputs": "a"}),
        ("/predict", {"inputs": "a"}),
        ("/tokenize", {"inputs": "a"}),
        ("/v1/hybrid", {"input": ["a"]}),
        ("/vertex", {"instances": [{"inputs": "a"}]}),
    ],
)
def test_a_group_of_routes_that_the_key_may_not_use_is_403(client: TestClient, path: str, body: dict[str, Any]) -> None:
    status, message = _ask(client, "rerank-only", path, body)

    assert status == 403
    assert "it may use those of: rerank" in message


def test_a_lane_that_the_key_may_not_use_is_403(client: TestClient) -> None:
    status, message = _ask(client, "bulk-only", "/v1/embeddings", {"input": "a"})

    assert (status, message) == (403, "this key may not use the lane `interactive`; it may use: bulk")
    refused = {"x-millrace-lane": "bulk"}
    assert _ask(client, "bulk-only", "/v1/embeddings", {"input": "a"}, **refused)[0] in (503, 504)


def test_statistics_of_the_deployment_are_for_operators(client: TestClient) -> None:
    assert _ask(client, "second-only", "/stats")[0] == 403
    assert _ask(client, "all", "/stats")[0] == 200
