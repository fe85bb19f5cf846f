"""Errors of every dialect, provoked on real gateways with and without a queue: each is as the OpenAPI document has it."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

import api.dialects
from api.routing import served_paths
from shared.plugins import discover
from tests.helpers.documented import Documented
from tests.helpers.gateway_process import gateway_process
from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.raw_http import exchange
from tests.helpers.valkey import free_port

DIALECTS = discover(api.dialects)
#: By dialect the path and the body of a good request.
GOOD: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    name: (served_paths(dialect, dialect.routes[0])[0], dialect.routes[0].example) for name, dialect in DIALECTS.items()
}
#: The same on a path that several of them share.
SHARED = [
    (name, route.example)
    for name, dialect in DIALECTS.items()
    for route in dialect.routes
    if "/rerank" in served_paths(dialect, route)
]
#: Where a body can name a model.
NAMED = sorted(
    name for name, dialect in DIALECTS.items() if "model" in dialect.routes[0].body.model_fields or name == "qdrant"
)
#: There are no workers: what is admitted is given up soon.
SOON = {"x-request-timeout": "0.05"}
BODY_LIMIT = 20_000


@pytest.fixture(scope="module")
def url(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a gateway with tenants, one of which may do everything."""
    folder = tmp_path_factory.mktemp("documented")
    path = write_keys_file(
        folder / "keys.yaml",
        tenant("free", "free-key", routes=["embed", "rerank", "classify", "bulk", "admin"]),
        tenant("barred", "barred-key", routes=["bulk"]),
        tenant("limited", "limited-key", limits={"requests": "1/hour"}, routes=["embed", "rerank", "classify", "bulk"]),
    )
    settings = {
        "MILLRACE_KEYS_FILE": str(path),
        "MILLRACE_ACCESS_LOG": "0",
        "MILLRACE_BODY_LIMIT_BYTES": str(BODY_LIMIT),
        "MILLRACE_BODY_TIMEOUT_S": "1",
    }
    with gateway_process(valkey_url, folder, settings) as gateway:
        with gateway.client("limited-key") as client:
            assert client.post("/embed", json={"inputs": "a"}, headers=SOON).status_code == 504
        yield gateway.url


@pytest.fixture(scope="module")
def documented(url: str) -> Documented:
    """What the document says."""
    return Documented(httpx.get(f"{url}/openapi.json", trust_env=False).json())


@pytest.fixture(scope="module")
def free(url: str) -> Iterator[httpx.Client]:
    """A client that may do everything."""
    with _client(url, "free-key") as client:
        yield client


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=30)


def _code(response: httpx.Response) -> str:
    problem = response.json()
    found: str = problem["code"] if "code" in problem else problem["error"]["code"]
    return found


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize(
    ("key", "code"),
    [("wrong", "invalid_api_key"), ("barred-key", "permission_denied"), ("limited-key", "rate_limit_exceeded")],
)
def test_a_key_that_does_not_do(url: str, documented: Documented, name: str, key: str, code: str) -> None:
    path, body = GOOD[name]

    with _client(url, key) as client:
        refused = client.post(path, json=body)

    assert _code(refused) == code
    documented.check(path, refused)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_body_that_is_not_valid(free: httpx.Client, documented: Documented, name: str) -> None:
    path, body = GOOD[name]

    for content in ({}, dict.fromkeys(body, 5)):
        refused = free.post(path, json=content)
        assert refused.status_code == (422 if DIALECTS[name].error_body.__name__ == "TeiError" else 400)
        documented.check(path, refused)
    broken = free.post(path, content=b"{")
    assert (broken.status_code, _code(broken)) == (400, "invalid_json")
    documented.check(path, broken)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_body_that_is_too_large(free: httpx.Client, documented: Documented, name: str) -> None:
    path, body = GOOD[name]

    refused = free.post(path, json={**body, "more": "x" * BODY_LIMIT})

    assert (refused.status_code, _code(refused)) == (413, "body_too_large")
    documented.check(path, refused)


@pytest.mark.parametrize("name", NAMED)
def test_a_model_that_is_not_there(free: httpx.Client, documented: Documented, name: str) -> None:
    path, body = GOOD[name]
    entries = {"inputs": [{"data": "a", "model": "nobody's"}]} if name == "qdrant" else {}

    refused = free.post(path, json={**body, "model": "nobody's", **entries})

    assert (refused.status_code, _code(refused)) == (404, "model_not_found")
    documented.check(path, refused)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_an_answer_that_does_not_come_in_time(free: httpx.Client, documented: Documented, name: str) -> None:
    path, body = GOOD[name]

    late = free.post(path, json=body, headers=SOON)

    assert (late.status_code, _code(late)) == (504, "deadline_exceeded")
    assert late.headers["retry-after"] == "1"
    documented.check(path, late)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_body_that_does_not_arrive(url: str, documented: Documented, name: str) -> None:
    path, _ = GOOD[name]
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer free-key\r\ncontent-length: 50\r\n\r\n{{"

    (came,) = asyncio.run(exchange(httpx.URL(url).port or 80, [head.encode()], patience_s=10)).responses
    answer = httpx.Response(
        came.status, headers=came.headers.items(), content=came.body, request=httpx.Request("POST", url)
    )

    assert (answer.status_code, _code(answer)) == (408, "body_too_slow")
    documented.check(path, answer)


@pytest.mark.parametrize(("name", "body"), SHARED, ids=[name for name, _ in SHARED])
def test_on_a_shared_path_errors_are_told_in_one_of_the_documented_forms(
    free: httpx.Client, documented: Documented, name: str, body: Mapping[str, Any]
) -> None:
    key = next(route.key for route in DIALECTS[name].routes if "/rerank" in route.paths)

    empty = free.post("/rerank", json={**body, key: []})
    late = free.post("/rerank", json=body, headers=SOON)

    assert (empty.status_code, _code(empty), late.status_code) == (400, "empty_input", 504)
    assert isinstance(empty.json()["error"], dict) == (DIALECTS[name].error_body.__name__ == "NestedError")
    documented.check("/rerank", empty)
    documented.check("/rerank", late)


def test_a_service_without_its_queue(documented: Documented, tmp_path: Any) -> None:
    with gateway_process(f"redis://127.0.0.1:{free_port()}/0", tmp_path, {}) as gateway, gateway.client() as client:
        for path, body in GOOD.values():
            refused = client.post(path, json=body, headers=SOON)

            assert (refused.status_code, _code(refused)) == (503, "unavailable")
            documented.check(path, refused)
        for path in ("/v1/jobs", "/v1/files", "/.well-known/ready", "/readyz"):
            refused = client.get(path)
            assert refused.status_code == 503
            # The probe that gateways answer for Kubernetes says what is missing; the others say when to come back.
            assert refused.headers.get("retry-after") == (None if path == "/readyz" else "1")
            documented.check(path, refused)


@pytest.mark.parametrize(
    ("method", "path", "asked", "request_", "status"),
    [
        ("GET", "/v1/models/{id}", "/v1/models/nobody's", {}, 404),
        ("GET", "/v1/jobs/{job_id}", "/v1/jobs/none", {}, 404),
        ("GET", "/v1/jobs", "/v1/jobs?limit=many", {}, 400),
        ("POST", "/v1/ingest", "/v1/ingest", {"content": b"<a/>", "headers": {"content-type": "text/xml"}}, 415),
        ("POST", "/v1/ingest", "/v1/ingest?encoding=none", {"content": b"{}"}, 400),
        ("POST", "/v1/jobs", "/v1/jobs", {"json": {"model": "nobody's"}}, 404),
        ("POST", "/v1/batches", "/v1/batches", {"json": {"endpoint": "/nowhere"}}, 400),
        ("POST", "/v1/batches", "/v1/batches", {"json": {"endpoint": "x" * BODY_LIMIT}}, 413),
        ("DELETE", "/v1/files/{file_id}", "/v1/files/none", {}, 404),
        ("POST", "/v1/webhook_endpoints", "/v1/webhook_endpoints", {"json": {}}, 400),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bulk_work_and_models_that_are_refused(
    free: httpx.Client,
    documented: Documented,
    method: str,
    path: str,
    asked: str,
    request_: Mapping[str, Any],
    status: int,
) -> None:
    refused = free.request(method, asked, **request_)

    assert refused.status_code == status, refused.text
    documented.check(path, refused)


def test_a_job_in_another_state_and_a_key_used_twice(free: httpx.Client, documented: Documented) -> None:
    key = {"idempotency-key": "documented-1"}
    job = free.post("/v1/jobs", json={}, headers=key).json()["id"]

    other = free.post("/v1/jobs", json={"metadata": {"a": "b"}}, headers=key)
    running = free.post(f"/v1/jobs/{job}/resume")

    assert (other.status_code, _code(other)) == (422, "idempotency_key_reused")
    documented.check("/v1/jobs", other)
    assert (running.status_code, _code(running)) == (409, "conflict")
    documented.check("/v1/jobs/{job_id}/resume", running)


@pytest.mark.parametrize("path", ["/info", "/api/tags", "/meta", "/v1/models", "/v1/jobs", "/stats", "/v1/status"])
def test_what_is_looked_at_without_a_key(url: str, documented: Documented, path: str) -> None:
    refused = httpx.get(url + path, trust_env=False)

    assert refused.status_code == 401
    documented.check(path, refused)
