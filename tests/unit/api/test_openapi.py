"""The OpenAPI document: it names every path, and says what is answered there. The application is the real one."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from starlette.routing import BaseRoute, Mount, Route

import api.dialects
from api.app import create_app
from api.error_responses import OF_MODELS
from api.routing import PostRoutes
from api.settings import ApiSettings
from shared.plugins import discover
from tests.helpers.documented import Documented
from tests.helpers.json_schema import fits

#: Files of the console and of the documentation, which are no part of the interface.
_FILES = re.compile(r"/console/\w+\.\w+|/docs/static|/docs/oauth2-redirect")
DIALECTS = discover(api.dialects)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The real one, with a path of Vertex AI's own too."""
    return create_app(ApiSettings(access_log=False, vertex_predict_route="/its/own", vertex_health_route="/its/health"))


@pytest.fixture(scope="module")
def told(app: FastAPI) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = TestClient(app).get("/openapi.json").json()
    return document


def _served(route: BaseRoute) -> Iterator[tuple[str, str]]:
    """Methods and paths of a route, as the document writes them."""
    if isinstance(route, PostRoutes):
        for path in route.paths:
            yield "POST", path
    elif isinstance(route, Route):
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path
    elif isinstance(route, Mount):
        yield "GET", route.path


def _named(told: dict[str, Any]) -> set[tuple[str, str]]:
    """Methods and paths that the document has, as operations or as further paths of one."""
    return {
        (method.upper(), name)
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
        for name in [path, *re.findall(r"`(/[^`]*)`", operation.get("description", ""))]
    }


def test_every_path_that_is_served_is_named(app: FastAPI, told: dict[str, Any]) -> None:
    served = {
        (method, re.sub(r":\w+(?=\})", "", path).rstrip("/") or "/")
        for route in app.routes
        for method, path in _served(route)
    }

    interface = {(method, path) for method, path in served if not _FILES.fullmatch(path)}
    assert len(interface) > 190
    about = {("GET", path) for path in re.findall(r"`(/\w[\w.]*)`", told["info"]["description"])}
    assert interface - _named(told) - about == set()
    # ... and nothing else is.
    assert _named(told) - interface == set()


def test_a_body_that_may_be_absent_is_documented_so(told: dict[str, Any]) -> None:
    bodies = {
        path: operation["requestBody"]["required"]
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
        if method == "post" and "webhook_endpoints" in path + path.replace("callbacks/replay", "webhook_endpoints")
    }

    assert {path for path, required in bodies.items() if not required} == {
        "/v1/webhook_endpoints/{endpoint_id}",
        "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
        "/v1/jobs/{job_id}/callbacks/replay",
    }
    assert "202" in told["paths"]["/v1/jobs/{job_id}/callbacks/replay"]["post"]["responses"]


@pytest.mark.parametrize("path", ["/health%0A", "/v1/jobs/%0A/cancel%0A", "/v1/models%0A", "/rerank%0A"])
def test_a_path_ends_where_it_ends(app: FastAPI, path: str) -> None:
    assert TestClient(app).get(path).status_code == 404


@pytest.mark.parametrize("name", ["cohere", "jina", "tei", "vllm", "voyage", "infinity"])
def test_a_prefix_that_changes_the_answer_has_an_entry_of_its_own(told: dict[str, Any], name: str) -> None:
    (path,) = (path for path in told["paths"] if re.fullmatch(rf"/{name}(/v1)?/rerank", path))

    assert told["paths"][path]["post"]["tags"] == [name]
    own = told["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert own != told["paths"]["/rerank"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]


def test_a_path_where_nothing_differs_is_no_entry_of_its_own(told: dict[str, Any]) -> None:
    assert "`/tei/embed`" in told["paths"]["/embed"]["post"]["description"]
    assert "/tei/embed" not in told["paths"]
    assert "`/models/{id}`" in told["paths"]["/v1/models/{id}"]["get"]["description"]
    assert "`/openai/v1/files`" in told["paths"]["/v1/files"]["post"]["description"]


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("kind", OF_MODELS, ids=lambda kind: kind.code)
def test_every_error_of_a_dialect_is_documented_where_it_is_served(told: dict[str, Any], name: str, kind: Any) -> None:
    status, body = DIALECTS[name].render_error(kind("what is wrong", param="input"))

    documented = Documented(told)
    for path in (path for path, methods in told["paths"].items() if name in methods.get("post", {}).get("tags", ())):
        answer = documented.answer("post", path, status)["content"]["application/json"]
        assert fits(body, answer["schema"])
        # An example of just this error, in just this form
        codes = [one["value"].get("code") or one["value"]["error"]["code"] for one in answer["examples"].values()]
        assert kind.code in codes


def test_every_example_of_an_answer_fits_its_schema(told: dict[str, Any]) -> None:
    documented = Documented(told)

    answers = [documented.resolved(answer) for answer in told["components"]["responses"].values()]
    contents = [answer["content"]["application/json"] for answer in answers]
    examples = [
        (example["value"], content["schema"]) for content in contents for example in content["examples"].values()
    ]
    assert len(examples) > 100
    assert [value for value, schema in examples if not fits(value, schema)] == []


def test_tei_answers_422_where_others_answer_400(told: dict[str, Any]) -> None:
    def codes(path: str, status: int) -> set[str]:
        responses = told["paths"][path]["post"]["responses"]
        if str(status) not in responses:
            return set()
        examples = Documented(told).answer("post", path, status)["content"]["application/json"]["examples"]
        return {name.split(" ")[0] for name in examples}

    assert {"invalid_request", "batch_too_large"} <= codes("/embed", 422)
    assert codes("/embed", 400) == {"empty_input", "invalid_json"}
    assert codes("/embed", 424) == {"wrong_task", "inference_failed", "worker_lost"}
    assert codes("/v1/embeddings", 422) == codes("/v1/embeddings", 424) == set()
    assert "invalid_request" in codes("/v1/embeddings", 400)


def test_everything_is_described(told: dict[str, Any]) -> None:
    operations = [operation for methods in told["paths"].values() for operation in methods.values()]

    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in told["tags"]}
    assert all(tag["description"] for tag in told["tags"])
    assert all(operation["summary"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]\w+", name)] == []


def test_every_parameter_and_every_field_is_described(told: dict[str, Any]) -> None:
    def thin(where: str, schema: dict[str, Any]) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            # What refers to a model, or is always the same, is said there; a field of others is forbidden.
            if field is not False and not {"description", "$ref", "const"} & set(field):
                yield f"{where}: {name}"

    operations = [(path, operation) for path, methods in told["paths"].items() for operation in methods.values()]
    missing = [
        f"{path}: {given['name']}"
        for path, operation in operations
        for given in operation.get("parameters", ())
        if "description" not in given
    ]
    for name, schema in told["components"]["schemas"].items():
        missing += thin(name, schema)
    for path, operation in operations:
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for schema in content["schema"].get("anyOf", [content["schema"]]):
                missing += thin(f"{path} {kind}", schema if "type" in schema else {})
    assert missing == []


def test_every_header_that_is_referred_to_is_described(told: dict[str, Any]) -> None:
    headers = told["components"]["headers"]

    referred = set(re.findall(r"#/components/headers/([\w-]+)", str(told)))
    assert referred == set(headers)
    assert all(header["description"] and header["schema"] for header in headers.values())
    assert {"x-request-id", "x-compute-time", "x-truncated-inputs", "retry-after"} <= referred


def test_models_have_names_without_our_modules(told: dict[str, Any]) -> None:
    names = told["components"]["schemas"]

    assert [name for name in names if "__" in name] == []
    assert set(re.findall(r"#/components/schemas/(\w+)", str(told))) <= set(names)
    assert {"CohereRerankResponse", "VllmRerankResponse", "WeaviateRerankResponse"} <= set(names)


def test_what_needs_no_key_is_refused_for_none() -> None:
    told = TestClient(create_app(ApiSettings(access_log=False, api_key=SecretStr("right")))).get("/openapi.json").json()

    assert not {"401", "403"} & set(told["paths"]["/.well-known/ready"]["get"]["responses"])
    assert {"401", "403"} <= set(told["paths"]["/info"]["get"]["responses"])
