"""Pages of other origins: nobody's may call the service unless it is named."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from api.app import create_app
from api.settings import ApiSettings

PAGE = "https://app.example"
#: What a browser asks before it lets a page send a key.
QUESTION = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def _client(**settings: Any) -> TestClient:
    return TestClient(create_app(ApiSettings(access_log=False, **settings)))


def test_no_page_may_call_by_default() -> None:
    client = _client()

    answers = [client.options("/v1/embeddings", headers=QUESTION), client.get("/v1/models", headers={"origin": PAGE})]

    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


def test_a_page_that_is_named_may_call_and_read_a_refusal() -> None:
    client = _client(cors_origins=f"{PAGE}, https://other.example", api_key=SecretStr("k"))

    question = client.options("/v1/embeddings", headers=QUESTION)
    refused = client.post("/v1/embeddings", headers={"origin": PAGE})

    assert question.status_code == 200
    assert question.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in question.headers["access-control-allow-headers"]
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "access-control-allow-credentials" not in refused.headers


def test_a_page_that_is_not_named_may_not() -> None:
    question = _client(cors_origins="https://other.example").options("/v1/embeddings", headers=QUESTION)

    assert question.status_code == 400
    assert "access-control-allow-origin" not in question.headers


@pytest.mark.parametrize("listed", ["app.example", "https://app.example/page", "https://a.example, *.example"])
def test_what_is_no_origin_is_refused(listed: str) -> None:
    with pytest.raises(ValidationError, match="is no origin such as"):
        ApiSettings(cors_origins=listed)


@pytest.mark.parametrize("listed", ["proxy.internal", "10.0.0.0/33", "10.0.0.1/8", "*"])
def test_what_is_no_network_is_no_trusted_proxy(listed: str) -> None:
    with pytest.raises(ValidationError):
        ApiSettings(trusted_proxies=listed)
