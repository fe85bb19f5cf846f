"""Routes: one path may be served by several dialects, and the body decides whose words are spoken."""

import re
from collections import defaultdict
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Match

import api.dialects
from api.app import create_app
from api.dialect import RERANK_PATHS, Dialect, Route, prefixes_of
from api.endpoint import choose
from api.routing import body_schema, served_paths
from api.settings import ApiSettings
from shared.errors import InvalidRequest
from shared.plugins import discover
from tests.helpers.dialects import answered
from tests.helpers.json_schema import fits

DIALECTS = discover(api.dialects)
ROUTES = [(dialect, route) for dialect in DIALECTS.values() for route in dialect.routes]
CONTENDERS: dict[str, list[tuple[Dialect, Route]]] = defaultdict(list)
for _dialect, _route in ROUTES:
    for _path in served_paths(_dialect, _route):
        CONTENDERS[_path].append((_dialect, _route))
PREFIXES = prefixes_of(DIALECTS.values())
CANONICAL = sorted({served_paths(dialect, route)[0] for dialect, route in ROUTES})


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
        ({"query": "q", "documents": ["a"], "texts": None, "passages": None}, "cohere"),
        ({"query": "q", "texts": ["a"], "documents": None}, "tei"),
        ({"query": "q", "documents": ["a"], "property": "", "top_k": 1}, "weaviate"),
        ({"query": "q", "documents": ["a"], "property": "", "model": "m"}, "cohere"),
        ({"query": "q", "documents": ["a"], "top_k": 1, "truncation": True}, "voyage"),
        ({"query": "q", "documents": ["a"], "property": None}, "cohere"),
        ({"query": "q", "documents": ["a"], "property": "", "model": None}, "weaviate"),
        ({"query": "q", "documents": ["a"], "top_k": None}, "cohere"),
        ({"query": "q", "documents": ["a"], "truncation": None}, "cohere"),
        ({"query": "q", "documents": ["a"], "top_k": None, "truncation": True}, "voyage"),
        ({"query": "q", "documents": ["a"], "top_k": 1, "top_n": None}, "voyage"),
        ({"query": "q", "documents": ["a"], "top_k": 1, "top_n": 2}, "cohere"),
        ({"query": "q", "documents": ["a"], "return_documents": True, "raw_scores": True}, "cohere"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", RERANK_PATHS)
def test_the_body_of_a_rerank_request_decides_the_dialect(path: str, body: dict[str, Any], dialect: str) -> None:
    chosen, route = choose(CONTENDERS[path], body)

    assert chosen.name == dialect
    assert path in route.paths


@pytest.mark.parametrize(
    ("path", "body", "dialect"),
    [
        ("/v1/embeddings", {"input": "a"}, "openai"),
        ("/openai/v1/embeddings", {"input": "a", "task": "retrieval.query"}, "openai"),
        ("/v3/embeddings", {"messages": []}, "vllm"),
        ("/v1/embeddings", {"input": "a", "messages": None, "sentences": None}, "openai"),
        ("/vectors", {"text": "a", "texts": None}, "weaviate"),
        ("/classify", {"input": "a", "labels": None}, "vllm"),
        ("/classify", {"input": "a"}, "vllm"),
        ("/v1/classify", {"input": ["a"], "labels": ["x"]}, "jina"),
    ],
    ids=str,
)
def test_the_body_decides_on_other_shared_paths_too(path: str, body: dict[str, Any], dialect: str) -> None:
    assert choose(CONTENDERS[path], body)[0].name == dialect


@pytest.mark.parametrize("body", [{}, {"query": "q"}, {"query": "q", "texts": ["a"], "documents": ["a"]}])
def test_a_body_in_nobodys_or_in_two_dialects_words_is_refused_with_the_words_that_there_are(
    body: dict[str, Any],
) -> None:
    with pytest.raises(InvalidRequest, match=r"exactly one of these fields: .*documents.*texts"):
        choose(CONTENDERS["/rerank"], body)


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=lambda entry: getattr(entry, "name", None))
def test_every_example_is_answered_by_its_own_dialect_on_every_path(dialect: Dialect, route: Route) -> None:
    for path in served_paths(dialect, route):
        if len(CONTENDERS[path]) > 1:
            assert choose(CONTENDERS[path], route.example) == (dialect, route), path


@pytest.mark.parametrize(("dialect", "route"), ROUTES, ids=lambda entry: getattr(entry, "name", None))
def test_every_example_is_answered_in_the_form_that_is_documented(dialect: Dialect, route: Route) -> None:
    answered(route, **route.example)


@pytest.mark.parametrize(
    "dialect", [dialect for dialect in DIALECTS.values() if dialect.prefix], ids=lambda one: one.name
)
def test_under_its_prefix_a_dialect_is_alone(client: TestClient, dialect: Dialect) -> None:
    paths = [path for route in dialect.routes for path in served_paths(dialect, route)]
    for path in (path for path in paths if path.startswith(f"/{dialect.prefix}/")):
        assert {other.name for other, _ in CONTENDERS[path]} == {dialect.name}
        assert client.post(path, json={"no": "such words"}).status_code in {400, 422}


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_error_is_rendered_in_the_words_of_the_dialect_that_was_spoken(client: TestClient, slash: str) -> None:
    tei = client.post(f"/rerank{slash}", json={"query": "q", "texts": []})
    cohere = client.post(f"/rerank{slash}", json={"query": "q", "documents": []})

    assert (tei.status_code, tei.json()["error_type"]) == (400, "Empty")
    assert (cohere.status_code, cohere.json()["error"]["code"]) == (400, "empty_input")


@pytest.mark.parametrize("path", sorted(CONTENDERS))
def test_a_body_that_is_not_a_json_object_is_refused_on_every_route(client: TestClient, path: str) -> None:
    for content in (b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"input": "\\ud800"}'):
        response = client.post(path, content=content)

        assert response.status_code in {400, 422}
        assert "the body" in response.json()["message"]
        assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", CANONICAL)
def test_every_route_is_documented_with_an_example(client: TestClient, path: str) -> None:
    post = client.get("/openapi.json").json()["paths"][path]["post"]

    assert post["requestBody"]["content"]["application/json"]["examples"]
    assert post["summary"]
    assert f"{path}/" not in client.get("/openapi.json").json()["paths"]


def test_every_body_is_documented_with_an_example(client: TestClient) -> None:
    documented = client.get("/openapi.json").json()["paths"]

    contents = [
        (path, content)
        for path, methods in documented.items()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    assert [path for path, content in contents if not (content.get("example") or content.get("examples"))] == []
    assert len(contents) > len(CANONICAL)


def test_a_field_of_the_wrong_type_is_named(client: TestClient) -> None:
    response = client.post("/v1/embeddings", json={"input": ["a"], "dimensions": "many"})

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "dimensions"


@pytest.mark.parametrize("timeout", ["1_0", "0", "-1", "soon", "nan", "1e9"])
def test_a_timeout_that_makes_no_sense_is_refused(client: TestClient, timeout: str) -> None:
    response = client.post("/v1/embeddings", json={"input": "a"}, headers={"x-request-timeout": timeout})

    assert response.status_code == 400
    assert "x-request-timeout must be seconds, more than 0 and at most 86400" in response.json()["error"]["message"]


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


@pytest.mark.parametrize(
    "start", ["/v1/models", "/models", "/openai/v1/models", "/infinity/models", "/tei/v1/models", "/cohere/v1/models"]
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_models_are_listed_and_shown_by_names_with_a_slash_in_any_writing(
    client: TestClient, start: str, slash: str
) -> None:
    (model,) = client.get(f"{start}{slash}").json()["data"]
    organisation, name = model["id"].split("/")

    for written in (f"{organisation}/{name}", f"{organisation}%2F{name}", name):
        assert client.get(f"{start}/{written}{slash}").json() == model
    missing = client.get(f"{start}/org%2Fnone{slash}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_under_each_prefix_there_are_the_probes_and_the_models(client: TestClient, prefix: str) -> None:
    for path in ("", "/", "/health", "/ping", "/livez/"):
        assert client.get(f"/{prefix}{path}").json()["status"] == "ok", path
    assert client.head(f"/{prefix}/health").status_code == 200
    assert client.get(f"/{prefix}/readyz").json()["ready"] is False
    assert "te_queue_size" in client.get(f"/{prefix}/metrics").text
    assert client.get(f"/{prefix}/v1/models").json() == client.get("/v1/models").json()


@pytest.mark.parametrize("prefix", ["tei", "cohere", "jina", "voyage", "vllm", "infinity"])
def test_every_provider_whose_answers_collide_has_a_prefix(prefix: str) -> None:
    assert f"/{prefix}/rerank" in CONTENDERS


@pytest.mark.parametrize(
    "path", ["", "/", "/invocations", "/v1/embeddings", "/embeddings/", "/vertex", "/embed", "/decode"]
)
def test_under_its_prefix_tei_is_whole(client: TestClient, path: str) -> None:
    """Dify and Hugging Face's clients append several of its paths to one base URL."""
    answer = client.post(f"/tei{path}", content=b"[]")

    assert (answer.status_code, answer.json()["error_type"]) == (422, "Validation")


def test_the_same_rerank_request_is_answered_as_each_provider_does_under_its_prefix() -> None:
    # Given one body that all of them take
    body = {"query": "q", "documents": ["a", "b"], "return_documents": True}

    def document(path: str) -> Any:
        _, route = choose(CONTENDERS[path], body) if len(CONTENDERS[path]) > 1 else CONTENDERS[path][0]
        answer = answered(route, **body)
        return answer.get("results", answer.get("data"))[0]["document"]

    # Then the form of a document is the one that the provider's clients read
    for path in ("/rerank", "/cohere/rerank", "/jina/rerank", "/vllm/rerank"):
        assert document(path) == {"text": "b"}
    for path in ("/infinity/rerank", "/voyage/rerank"):
        assert document(path) == "b"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_interactive_documentation_needs_no_internet(client: TestClient, path: str) -> None:
    page = client.get(path).text

    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked
    for address in linked:
        assert address.startswith("/"), "no content delivery network"
        assert client.get(address).status_code == 200, address


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_documentation_may_be_asked_for_with_a_slash_and_as_head(client: TestClient, path: str) -> None:
    assert client.get(f"{path}/").content == client.get(path).content
    assert client.head(path).status_code == client.head(f"{path}/").status_code == 200


def test_every_answer_is_documented_by_a_model(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    undocumented = {
        f"{method} {path}"
        for path, methods in paths.items()
        for method, described in methods.items()
        if not any(_schemas_of_success(described))
    }
    assert undocumented == set()


def _schemas_of_success(described: dict[str, Any]) -> list[Any]:
    found = [answer for status, answer in described["responses"].items() if status.startswith("2")]
    return [content.get("schema") for answer in found for content in answer.get("content", {}).values()]


def test_paths_are_looked_up_and_not_tried_one_after_the_other() -> None:
    # A request on the last of three hundred routes would wait 0.1 ms for the others
    routes = create_app(ApiSettings()).router.routes

    scope = {"type": "http", "method": "POST", "path": "/v1/hybrid/", "root_path": "", "headers": []}
    assert routes[0].matches(scope)[0] is Match.FULL
    assert [route for route in routes if route.matches(scope)[0] is Match.FULL] == [routes[0]]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/rerank/v1", "/openai/deployments/m/chat", "/v1/"])
def test_an_unknown_path_is_answered_in_a_sentence_that_names_it(client: TestClient, path: str) -> None:
    response = client.post(path, json={})

    assert response.status_code == 404
    problem = response.json()
    assert problem["error"]["code"] == "path_not_found"
    assert problem["detail"] == problem["message"] == problem["error"]["message"]
    assert f"at {path};" in problem["message"]
    assert "/docs" in problem["message"]


def test_a_long_unknown_path_is_not_repeated_whole(client: TestClient) -> None:
    assert len(client.get("/" + "x" * 5000).json()["message"]) < 300


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/rerank", "POST"),
        ("DELETE", "/", "GET, HEAD, POST"),
        ("PUT", "/v1/models", "GET, HEAD"),
        ("PATCH", "/openai/deployments/m/embeddings", "POST"),
        ("OPTIONS", "/metrics/", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client: TestClient, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)

    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    problem = response.json()
    assert (problem if isinstance(problem["error"], str) else problem["error"])["code"] == "method_not_allowed"
    assert f"{method} is not served at {path}, which takes {allowed};" in response.json()["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tei/embed"),
        ("POST", "/tei/embeddings/all"),
        ("GET", "/embed"),
        ("POST", "/api/show"),
        ("POST", "/info"),
    ],
)
def test_clients_that_read_a_string_are_told_in_one_of_unknown_paths_and_wrong_methods(
    client: TestClient, method: str, path: str
) -> None:
    problem = client.request(method, path, json={}).json()

    assert problem["error"] == problem["message"]
    assert problem["error_type"] == "Validation"


@pytest.mark.parametrize("value", [True, "4", 4.5, -1, [4], 2**31])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a"]}),
        ("/embed", {"inputs": ["a"]}),
        ("/api/embed", {"input": "a"}),
        ("/v1/hybrid", {"input": "a"}),
    ],
)
def test_dimensions_that_are_no_such_number_are_refused_by_name(
    client: TestClient, path: str, body: dict[str, Any], value: Any
) -> None:
    response = client.post(path, json={**body, "dimensions": value})

    assert response.status_code in {400, 422}
    assert "`dimensions`" in response.json()["message"]


def test_parameters_of_a_path_are_documented(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for described in methods.values():
            named = {entry["name"] for entry in described.get("parameters", ()) if entry["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_a_field_by_which_one_dialect_claims_a_body_is_in_no_others_schema() -> None:
    weaviate = {"query": "q", "documents": [{"text": "a"}], "property": ""}
    labelled = {"input": ["a"], "labels": "x"}

    assert not fits(weaviate, body_schema(CONTENDERS["/rerank"]))
    assert not fits(labelled, body_schema(CONTENDERS["/classify"]))
