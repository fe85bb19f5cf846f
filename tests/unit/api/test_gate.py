"""The gate: what is asked for a key, what is not, and how a refusal is told. The application is the real one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.routing import Route

import api.dialects
from api.app import create_app
from api.dialect import prefixes_of
from api.health import public_paths
from api.routing import contenders_by_path
from api.settings import ApiSettings
from shared.errors import Forbidden, Overloaded, Unauthenticated
from shared.plugins import discover
from tests.helpers.keys_files import tenant, write_keys_file

KEY = "the-right-key"
DIALECTS = discover(api.dialects)
POST_PATHS = sorted(contenders_by_path(DIALECTS, ApiSettings()))


def _app(**settings: Any) -> FastAPI:
    return create_app(ApiSettings(api_key=SecretStr(KEY), access_log=False, **settings))


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Of a gateway that asks for a key. Nothing here needs a queue."""
    return TestClient(_app())


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _filled(path: str) -> str:
    return path.replace("{path:path}", "x").replace("{model:path}", "x").replace("{", "").replace("}", "")


def test_every_route_asks_for_a_key_but_probes_metrics_and_documentation() -> None:
    # Given every path and method that the application serves
    app = _app()
    documentation = {"/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"}
    served = [
        (method, _filled(route.path))
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    ]
    served += [("POST", _filled(path)) for path in POST_PATHS]

    # When each is asked without a key
    client = TestClient(app)
    open_ones = {
        (path.rstrip("/") or "/") for method, path in served if client.request(method, path).status_code != 401
    }

    # Then only those are open
    assert len(served) > 200
    assert open_ones == public_paths(ApiSettings(), prefixes_of(DIALECTS.values())) | documentation
    assert {"/tei", "/tei/health", "/infinity/health", "/vllm/metrics"} <= open_ones
    assert "/tei/v1/models" not in open_ones


def test_a_route_that_is_added_later_is_for_operators(tmp_path: Path) -> None:
    # Given a new route that nobody has thought about
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "team-key"))
    app = _app(keys_file=path)
    app.add_api_route("/v1/secrets", lambda: "told")
    client = TestClient(app)

    # Then
    assert client.get("/v1/secrets").status_code == 401
    refused = client.get("/v1/secrets", headers=_bearer("team-key"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert client.get("/v1/secrets", headers=_bearer(KEY)).json() == "told"


def test_a_path_that_is_not_served_is_404_for_who_has_a_key(tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "team-key"))
    client = TestClient(_app(keys_file=path))

    assert client.get("/v1/nothing", headers=_bearer("team-key")).status_code == 404
    assert client.get("/v1/nothing").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [_bearer(KEY), {"authorization": KEY}, {"x-api-key": KEY}, {"api-key": KEY}, {**_bearer("None"), "api-key": KEY}],
)
def test_a_key_is_taken_in_every_form_that_clients_send(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/embed", "/vectors", "/api/embed", "/qdrant/inference", "/predict", "/vertex"])
def test_a_refusal_is_told_in_a_string_where_clients_read_one(client: TestClient, path: str) -> None:
    refused = client.post(path, headers=_bearer("wrong"))

    assert refused.status_code == 401
    assert refused.json()["error"] == refused.json()["message"]
    assert "is not valid here" in refused.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/v1/embeddings", "/v1/embeddings/", "/v2/embed", "/v1/jobs", "/v1/batches", "/openai/v1/files", "/nothing"],
)
def test_a_refusal_is_told_in_openais_form_elsewhere(client: TestClient, path: str) -> None:
    refused = client.post(path)

    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert "none was sent" in refused.json()["detail"]


def test_a_refusal_says_how_to_authenticate_and_has_the_requests_id(client: TestClient) -> None:
    refused = client.post("/v1/embeddings", headers={"x-request-id": "mine"})

    assert refused.headers["www-authenticate"].startswith("Bearer ")
    assert refused.headers["x-request-id"] == "mine"
    assert "retry-after" not in refused.headers


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("error", [Unauthenticated(), Forbidden(), Overloaded()])
def test_no_dialect_changes_the_status_of_a_refusal(name: str, error: Any) -> None:
    assert DIALECTS[name].render_error(error)[0] == error.status


def test_a_request_is_refused_before_its_body_is_read() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "headers": [(b"authorization", b"Bearer wrong")],
        "query_string": b"",
    }
    asyncio.run(_app()(scope, receive, send))

    assert sent[0]["status"] == 401


def test_a_key_is_never_repeated(client: TestClient) -> None:
    refused = client.post("/v1/embeddings", headers=_bearer("mr_never-say-this"))

    assert "never-say-this" not in refused.text
    assert "never-say-this" not in json.dumps(dict(refused.headers))


def test_metrics_ask_for_an_operators_key_where_that_is_wanted(tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "team-key"))
    client = TestClient(_app(keys_file=path, metrics_need_key=True))

    statuses = [
        client.get("/metrics/", headers=headers).status_code for headers in ({}, _bearer("team-key"), _bearer(KEY))
    ]

    assert statuses == [401, 403, 200]


def test_refusals_are_counted(client: TestClient) -> None:
    client.post("/v1/embeddings")

    assert 'millrace_refused_requests_total{code="invalid_api_key"}' in client.get("/metrics").text


def test_any_key_is_ignored_where_none_is_asked_for() -> None:
    client = TestClient(create_app(ApiSettings(access_log=False)))

    assert client.get("/v1/models", headers=_bearer("None")).status_code == 200


def test_what_others_have_used_is_for_operators(tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("team", "team-key"))
    client = TestClient(_app(keys_file=path))

    assert client.get("/v1/usage?tenant=default", headers=_bearer("team-key")).status_code == 403
    # There is no Redis; who may ask is told that.
    assert client.get("/v1/usage", headers=_bearer("team-key")).status_code == 503
    assert client.get("/v1/usage?tenant=team", headers=_bearer(KEY)).status_code == 503


def test_the_schema_tells_where_a_key_goes_and_what_needs_none(client: TestClient) -> None:
    told = client.get("/openapi.json").json()

    assert told["security"] == [{"bearer": []}, {"x-api-key": []}, {"api-key": []}]
    assert told["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert told["paths"]["/readyz"]["get"]["security"] == []
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            if "security" in operation:
                assert method == "get"
                assert client.get(path).status_code != 401


def test_the_schema_of_a_gateway_without_keys_asks_for_none() -> None:
    told = TestClient(create_app(ApiSettings(access_log=False))).get("/openapi.json").json()

    assert "security" not in told
    assert "securitySchemes" not in told["components"]


def test_without_tenants_there_is_no_usage_to_tell() -> None:
    refused = TestClient(create_app(ApiSettings(access_log=False))).get("/v1/usage")

    assert refused.status_code == 409
    assert "there are none: set MILLRACE_API_KEY or MILLRACE_KEYS_FILE" in refused.json()["message"]


def test_bulk_work_needs_its_group_and_its_lane(tmp_path: Path) -> None:
    tenants = [
        tenant("a", "no-group", routes=["embed"]),
        tenant("b", "no-lane", lanes=["interactive"]),
        tenant("c", "both", routes=["bulk"]),
    ]
    client = TestClient(_app(keys_file=write_keys_file(tmp_path / "keys.yaml", *tenants)))

    refused = [client.get("/v1/webhook_event_types", headers=_bearer(key)) for key in ("no-group", "no-lane", "both")]

    assert [answer.status_code for answer in refused] == [403, 403, 200]
    assert "routes of `bulk`; it may use those of: embed" in refused[0].json()["message"]
    assert "lane `bulk`; it may use: interactive" in refused[1].json()["message"]
