"""The OpenAI dialect: parse, render, render_error."""

import base64
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from api.app import create_app
from api.catalog import Catalog
from api.dialect import Answer, Route, view_paths
from api.dialects.openai import PLUGIN, ModelsResponse
from api.embeddings import EmbeddingsResponse
from api.settings import ApiSettings
from shared.errors import (
    BatchTooLarge,
    EmptyInput,
    InputTooLong,
    MillraceError,
    ModelNotFound,
    Overloaded,
    TokenInputUnsupported,
)
from shared.jobs import EmbedRequest
from shared.queues import Operation
from shared.results import Output
from tests.helpers.dialects import CONTEXT, job, parsed, rendered
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import output

ROUTE, AZURE = PLUGIN.routes


def rendered_after(route: Route, body: Any) -> Any:
    """The answer to a parsed body."""
    return route.render(body, Answer("req-1", "own/name", [output([[1.0, 0.0]])], 0.5, ["own/name"]))


def _body(**fields: Any) -> Any:
    return ROUTE.body.model_validate(fields)


def _parse(**fields: Any) -> EmbedRequest:
    request = parsed(ROUTE, **fields)
    assert isinstance(request, EmbedRequest)
    return request


def test_the_route_is_openais() -> None:
    assert (ROUTE.paths[0], ROUTE.operation) == ("/v1/embeddings", Operation.EMBED)
    ROUTE.body.model_validate(ROUTE.example)


def test_a_text_and_a_list_of_texts_are_both_accepted() -> None:
    assert list(_parse(input="one").texts) == ["one"]
    assert list(_parse(input=["one", "two"]).texts) == ["one", "two"]


def test_a_request_is_truncated_normalised_and_carries_its_context() -> None:
    assert _parse(input="one") == EmbedRequest(
        request_id="req-1", deadline=12.5, texts=["one"], truncate=True, normalize=True, dimensions=None
    )


def test_the_model_is_passed_on_as_it_was_named_or_not_at_all() -> None:
    assert job(ROUTE, input="a", model="m").model == "m"
    assert job(ROUTE, input="a").model is None


@pytest.mark.parametrize(("given", "meant"), [(64, 64), (0, None), (None, None)])
def test_dimensions_of_0_and_null_mean_all(given: int | None, meant: int | None) -> None:
    assert _parse(input="a", dimensions=given).dimensions == meant


def test_null_fields_and_unknown_fields_are_harmless() -> None:
    assert _parse(input="a", user=None, encoding_format=None, colour="green").texts == ["a"]


@pytest.mark.parametrize("texts", ["", [], ["a", ""]])
def test_empty_input_is_refused(texts: object) -> None:
    with pytest.raises(EmptyInput):
        _parse(input=texts)


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_way_out(ids: object) -> None:
    with pytest.raises(TokenInputUnsupported, match="check_embedding_ctx_length=False") as raised:
        _parse(input=ids)

    assert raised.value.param == "input"


@pytest.mark.parametrize("fields", [{}, {"input": 5}, {"input": None}, {"input": "a", "encoding_format": "hex"}])
def test_other_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _body(**fields)


def test_vectors_are_rendered_in_order_with_usage_and_the_model_as_it_was_asked_for() -> None:
    # When
    answer = rendered(ROUTE, output([[0.5, 1.0], [0.25, -1.0]]), input=["a", "b"], model="alias")

    # Then
    EmbeddingsResponse.model_validate(answer)
    # What OpenAI leaves out and Mistral's client needs
    assert answer.pop("id").startswith("embd-")
    assert abs(answer.pop("created") - time.time()) < 60
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, -1.0]},
        ],
        "model": "alias",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_the_models_own_name_is_told_when_none_was_asked_for() -> None:
    assert rendered(ROUTE, output([[1.0]]), input="a")["model"] == "own/name"


@pytest.mark.parametrize(
    ("output_dtype", "numpy_dtype", "values"),
    [("float16", "<f2", [0.5, -2.0]), ("int8", "i1", [-5, 127]), ("ubinary", "u1", [129])],
)
def test_quantised_vectors_are_numbers_in_json_and_their_own_bytes_in_base64(
    output_dtype: str, numpy_dtype: str, values: list[float]
) -> None:
    data = np.array([values], numpy_dtype)
    quantised = Output(shape=(1, 2), data=b"", tokens=3, quantized={output_dtype: data.tobytes()})

    assert _parse(input="a", output_dtype=output_dtype).precisions == [output_dtype]
    as_json, as_base64 = (
        rendered(ROUTE, quantised, input="a", output_dtype=output_dtype, **fields)
        for fields in ({}, {"encoding_format": "base64"})
    )
    assert as_json["data"][0]["embedding"] == values
    assert base64.b64decode(as_base64["data"][0]["embedding"]) == data.tobytes()


def test_base64_holds_the_same_numbers() -> None:
    answer = rendered(ROUTE, output([[0.1, -2.5]]), input="a", encoding_format="base64")

    (entry,) = answer["data"]
    assert np.frombuffer(base64.b64decode(entry["embedding"]), "<f4").tolist() == np.float32([0.1, -2.5]).tolist()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputTooLong(), 400),
        (EmptyInput(), 400),
        (ModelNotFound(), 404),
        (BatchTooLarge(), 413),
        (Overloaded(), 429),
        (MillraceError(), 500),
    ],
)
def test_an_error_has_openais_shape_and_the_status_of_its_class(error: MillraceError, status: int) -> None:
    given, body = PLUGIN.render_error(error)

    assert given == status
    assert body["error"]["code"] == error.code
    assert set(body["error"]) == {"message", "type", "param", "code"}


#: Two configured models, of which one has a worker, and work for it.
CATALOG = Catalog(
    [config("org/small", "small"), config("big")],
    fleet_of(card("org/small", dimensions=384, modalities=["text", "image"])),
    {"org/small": 50},
)
LIST, SHOW = PLUGIN.views


def test_models_are_listed_where_every_client_looks_for_them() -> None:
    assert (LIST.path, SHOW.path) == ("/v1/models", "/v1/models/{id:path}")
    paths = set(view_paths(PLUGIN, LIST, ["infinity", "vllm"]))
    assert {"/models", "/openai/v1/models", "/infinity/models", "/vllm/v1/models"} <= paths


def test_the_list_of_models_has_those_that_are_ready_and_those_that_are_not() -> None:
    answer = LIST.render(CATALOG, ApiSettings(), {})

    ModelsResponse.model_validate(answer)
    assert answer["object"] == "list"
    assert [(m["id"], m["object"], m["ready"], m["dimensions"]) for m in answer["data"]] == [
        ("org/small", "model", True, 384),
        ("big", "model", False, None),
    ]


def test_a_model_says_what_infinitys_client_reads() -> None:
    answer = LIST.render(CATALOG, ApiSettings(max_pending_items=1000), {})

    small, big = answer["data"]
    assert small["capabilities"] == ["embed", "rerank", "image_embed"]
    assert small["stats"] == {"queue_absolute": 50, "queue_fraction": 0.05, "results_pending": 50, "batch_size": 16}
    assert (big["capabilities"], big["stats"]["queue_absolute"], big["stats"]["batch_size"]) == ([], 0, None)


@pytest.mark.parametrize("name", ["org/small", "small", "org/small/"])
def test_one_model_is_shown_by_its_name_or_alias(name: str) -> None:
    assert SHOW.render(CATALOG, ApiSettings(), {"id": name})["id"] == "org/small"


def test_a_model_that_is_not_there_is_not_found_with_those_that_are() -> None:
    with pytest.raises(ModelNotFound, match="'org/none' is not served here; served models: org/small, big") as raised:
        SHOW.render(CATALOG, ApiSettings(), {"id": "org/none"})

    assert PLUGIN.render_error(raised.value)[1]["error"]["code"] == "model_not_found"


def test_on_azure_the_path_names_the_model() -> None:
    route = AZURE.for_model("own/name")
    body = route.body.model_validate({"input": "a", "model": "another"})

    assert route.parse(body, CONTEXT).model == "own/name"
    assert rendered_after(route, body)["model"] == "own/name"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("name", ["m", "own/name", "own%2Fname"])
def test_azures_path_is_served_with_any_name_and_version(name: str, slash: str) -> None:
    client = TestClient(create_app(ApiSettings()))

    response = client.post(f"/openai/deployments/{name}/embeddings{slash}?api-version=2024-10-21", json={"input": []})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "empty_input"
