"""A gateway beside which no job runner runs takes no job that would wait for one."""

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.bulk.job_routes import JOBS_PATH
from api.bulk.paths import INGEST_PATH, JOB_PATHS
from api.settings import ApiSettings

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    """The real application, not started: it connects to nothing."""
    return TestClient(create_app(ApiSettings(jobs=False)))


def test_a_job_is_refused_in_a_sentence_that_says_what_can_be_done() -> None:
    client = TestClient(create_app(ApiSettings(jobs=False)))

    answer = client.post(INGEST_PATH, content=b'{"text": "a"}\n', headers=NDJSON)

    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "jobs_off"
    assert "takes no bulk jobs" in error["message"]
    assert "accept: application/x-ndjson" in error["message"]


@pytest.mark.parametrize("path", JOB_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_needs_a_runner_is_refused(client: TestClient, method: str, path: str) -> None:
    for each in (path, f"{path}/", f"{path}/some_id", f"{path}/some_id/cancel"):
        answer = client.request(method, each)

        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "jobs_off"), each


def test_vectors_on_the_same_connection_need_none(client: TestClient) -> None:
    # When somebody asks for them and lets them be a little wrong, so that nothing has to be connected
    headers = {**NDJSON, "accept": "application/x-ndjson"}
    answer = client.post(f"{INGEST_PATH}?webhook=https://a.example", content=b'{"text": "a"}\n', headers=headers)

    # Then he is told of that
    assert answer.status_code == 400
    assert "webhook" in answer.json()["error"]["message"]


def test_the_document_has_only_what_is_served(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    assert INGEST_PATH in paths
    assert not [path for path in paths if path.startswith(JOB_PATHS)]
    assert JOBS_PATH in TestClient(create_app(ApiSettings())).get("/openapi.json").json()["paths"]
