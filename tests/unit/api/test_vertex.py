"""Vertex AI's dialect: TEI's bodies in an envelope."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.dialects.vertex import PLUGIN
from api.settings import ApiSettings
from shared.errors import EmptyInput, InvalidRequest
from shared.jobs import EmbedRequest, RerankRequest
from tests.helpers.dialects import answered, job, rendered
from tests.helpers.outputs import output
from tests.helpers.recorded import RECORDED

(ROUTE,) = PLUGIN.routes


def test_what_vertex_sends_is_understood() -> None:
    path, body = RECORDED["Vertex AI"]

    assert path in ROUTE.paths
    assert len(answered(ROUTE, **body)["predictions"]) == 2


def test_each_instance_is_a_request_of_its_own_with_its_own_options_and_model() -> None:
    asked = job(ROUTE, instances=[{"inputs": ["a", "b"]}, {"inputs": "c", "truncate": False, "model": "own/name"}])

    assert [(request.texts, request.truncate) for request in asked.requests if isinstance(request, EmbedRequest)] == [
        (["a", "b"], True),
        (["c"], False),
    ]
    assert list(asked.models) == [None, "own/name"]


def test_each_prediction_is_what_teis_route_answers() -> None:
    outputs = [output([[0.5], [1.0]]), output([[0.25]])]

    answer = rendered(ROUTE, outputs, instances=[{"inputs": ["a", "b"]}, {"inputs": "c"}])

    assert answer == {"predictions": [[[0.5], [1.0]], [[0.25]]]}


def test_instances_may_be_reranked_or_compared() -> None:
    ranked = {"instances": [{"query": "q", "texts": ["a", "b"]}]}
    compared = {"instances": [{"inputs": {"source_sentence": "a", "sentences": ["b"]}}]}

    assert isinstance(job(ROUTE, **ranked).requests[0], RerankRequest)
    assert rendered(ROUTE, output([0.25, 0.75]), **ranked)["predictions"][0][0] == {"index": 1, "score": 0.75}
    assert rendered(ROUTE, output([[1.0, 0.0], [0.6, 0.8]]), **compared)["predictions"] == [[pytest.approx(0.6)]]


@pytest.mark.parametrize(
    ("instances", "error", "sentence"),
    [
        ([], EmptyInput, "`instances` cannot be empty"),
        ([{"inputs": "a"}, {"inputs": ""}], EmptyInput, "`instances[1]`: `inputs` cannot be empty"),
        ([{"inputs": 5}], InvalidRequest, "`instances[0]`: `inputs`: "),
        ([{}], InvalidRequest, "`instances[0]`: `inputs`: Field required"),
        ([{"inputs": "a"}, {"query": "q", "texts": ["b"]}], InvalidRequest, "must all ask for the same task"),
    ],
)
def test_an_instance_that_makes_no_sense_is_named(instances: Any, error: type[InvalidRequest], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        job(ROUTE, instances=instances)


@pytest.mark.parametrize("path", ["/predict", "/models/m:predict"])
def test_vertex_chooses_the_paths_that_it_calls(path: str) -> None:
    settings = ApiSettings(vertex_predict_route=path, vertex_health_route="/up")
    client = TestClient(create_app(settings))

    # TEI would want `inputs` there
    assert "`instances`" in client.post(path, json={"inputs": "a"}).json()["error"]
    assert client.get("/up").status_code == 503


def test_vertex_variables_are_read_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/models/m:predict")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/up")

    settings = ApiSettings.load()

    assert (settings.vertex_predict_route, settings.vertex_health_route) == ("/models/m:predict", "/up")
