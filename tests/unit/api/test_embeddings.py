"""The body that OpenAI's, Jina's, Voyage's, vLLM's and Infinity's clients share: each one's options, in each one's words."""

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api.catalog import Catalog
from api.dialects.openai import PLUGIN
from api.embeddings import EmbeddingsBody
from shared.errors import EmptyInput, InvalidRequest, ModelNotFound, TokenInputUnsupported
from shared.jobs import EmbedRequest
from shared.model_config import ModelConfig
from shared.results import Kind
from tests.helpers.dialects import CONTEXT, answered, job, parsed
from tests.helpers.fleets import card, config, fleet_of

ROUTE = PLUGIN.routes[0]


def _parse(**fields: Any) -> EmbedRequest:
    request = parsed(ROUTE, input=["a", "b"], **fields)
    assert isinstance(request, EmbedRequest)
    return request


def _vectors(**fields: Any) -> list[Any]:
    return [entry["embedding"] for entry in answered(ROUTE, input=["a", "b"], **fields)["data"]]


def test_null_is_absent_in_every_optional_field() -> None:
    nulls = dict.fromkeys(name for name, field in EmbeddingsBody.model_fields.items() if not field.is_required())

    assert _parse(**nulls) == _parse()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"output_dimension": 8}, {"dimensions": 8}),
        ({"dimensions": 8, "output_dimension": 8}, {"dimensions": 8}),
        ({"output_dimension": 0}, {"dimensions": None}),
        ({"normalized": False}, {"normalize": False}),
        ({"normalize": False}, {"normalize": False}),
        ({"use_activation": False}, {"normalize": False}),
        ({"truncate": False}, {"truncate": False}),
        ({"truncate": "NONE"}, {"truncate": False}),
        ({"truncate": "START"}, {"truncate": True, "truncation_side": "left"}),
        ({"truncate": "END", "truncation": True}, {"truncate": True, "truncation_side": "right"}),
        ({"truncation": False}, {"truncate": False}),
        ({"truncation": True}, {"truncate": True}),
        ({"truncate_prompt_tokens": -1, "truncation_side": "left"}, {"truncate": True, "truncation_side": "left"}),
        ({"truncate_prompt_tokens": -1}, {"max_tokens": None}),
        ({"truncate_prompt_tokens": 100}, {"truncate": True, "max_tokens": 100}),
        ({"late_chunking": True}, {"late_chunking": True}),
        ({"return_multivector": True}, {"kinds": [Kind.MULTIVECTOR]}),
        ({"prompt_name": "p"}, {"prompt_name": "p"}),
        ({"prompt": "p "}, {"prompt": "p "}),
        ({"instruction": "find"}, {"prompt": "find"}),
        ({"input_type": "query"}, {"input_type": "query"}),
        ({"input_type": "search_document", "task": "retrieval.passage"}, {"input_type": "document"}),
        ({"task": "text-matching"}, {"input_type": None, "prompt_names": ["text-matching", "STS"]}),
    ],
    ids=str,
)
def test_every_clients_words_ask_for_the_same(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = _parse(**fields)

    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"dimensions": 8, "output_dimension": 16}, "`dimensions` and `output_dimension`"),
        ({"normalized": True, "normalize": False}, "`normalized` and `normalize`"),
        ({"truncate": False, "truncation": True}, "`truncate` and `truncation`"),
        ({"truncate": "NONE", "truncation": True}, "`truncate` and `truncation`"),
        ({"truncate": "END", "truncation_side": "left"}, "`truncate` and `truncation_side`"),
        ({"truncate": False, "truncate_prompt_tokens": -1}, "`truncate` and `truncate_prompt_tokens`"),
        ({"output_dtype": "int8", "embedding_type": "binary"}, "`output_dtype` and `embedding_type`"),
        ({"embedding_type": ["int8", "float"], "output_dtype": "int8"}, "`embedding_type` and `output_dtype`"),
        ({"input_type": "query", "task": "retrieval.passage"}, "`input_type` and `task`"),
        ({"prompt": "a", "instruction": "b"}, "`prompt` and `instruction`"),
    ],
    ids=str,
)
def test_words_that_contradict_each_other_are_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{named} contradict each other"):
        _parse(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"input_type": "poem"}, "`input_type` 'poem' is unknown; it may be: query, "),
        ({"task": "poem"}, "`task` 'poem' is unknown"),
        ({"return_multivector": True, "dimensions": 8}, "`dimensions` is for dense vectors"),
        ({"return_multivector": True, "embedding_type": "binary"}, "`embedding_type` is for dense vectors"),
        ({"return_multivector": True, "encoding_format": "base64"}, "`encoding_format` is for dense vectors"),
        ({"return_multivector": True, "use_activation": False}, "`use_activation` is for dense vectors"),
    ],
    ids=str,
)
def test_what_would_change_numbers_and_is_not_served_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{named}"):
        _parse(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"add_special_tokens": False},
        {"endianness": "big"},
        {"encoding_format": "bytes"},
        {"embed_dtype": "bfloat16"},
        {"modality": "audio"},
        {"dimensions": -1},
        {"embedding_type": "hex"},
    ],
    ids=str,
)
def test_other_values_that_are_not_served_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        _parse(**fields)

    assert {error["loc"][0] for error in raised.value.errors()} == set(fields)


@pytest.mark.parametrize(
    "fields",
    [{"output_dtype": "ubinary"}, {"embedding_type": "ubinary"}, {"embedding_type": ["ubinary"]}],
    ids=str,
)
def test_a_number_format_is_asked_for_in_voyages_and_in_jinas_words(fields: dict[str, Any]) -> None:
    assert _parse(**fields).precisions == ["ubinary"]


def test_a_list_of_formats_gives_an_object_with_each_as_jina_does() -> None:
    vectors = _vectors(embedding_type=["float", "base64", "binary"], encoding_format="base64")

    for vector in vectors:
        assert list(vector) == ["float", "base64", "binary"]
        assert np.frombuffer(base64.b64decode(vector["base64"]), "<f4").tolist() == np.float32(vector["float"]).tolist()
        assert len(vector["binary"]) == len(vector["float"]) // 8


@pytest.mark.parametrize(
    ("fields", "bytes_each"),
    [
        ({"encoding_format": "base64"}, 4),
        ({"embedding_type": "base64"}, 4),
        ({"encoding_format": "base64", "output_dtype": "int8"}, 1),
        ({"encoding_format": "base64", "embedding_type": "int8"}, 1),
        ({"encoding_format": "base64", "embed_dtype": "float16"}, 2),
        ({"encoding_format": "base64", "embed_dtype": "float16", "endianness": "little"}, 2),
    ],
    ids=str,
)
def test_base64_holds_the_bytes_of_the_format(fields: dict[str, Any], bytes_each: int) -> None:
    assert {len(base64.b64decode(vector)) for vector in _vectors(dimensions=16, **fields)} == {16 * bytes_each}


def test_embed_dtype_leaves_numbers_in_json_alone() -> None:
    assert _vectors(embed_dtype="float16") == _vectors()


def test_a_vector_for_each_token_comes_under_embeddings_as_jinas_v4_has_it() -> None:
    first, _ = answered(ROUTE, input=["a", "b"], return_multivector=True)["data"]

    assert first == {"object": "embedding", "index": 0, "embeddings": [[1.0] * 4] * 2}


@pytest.mark.parametrize(
    ("fields", "images"),
    [
        ({"input": ["https://h/i.png"], "modality": "image"}, ["https://h/i.png"]),
        ({"input": [{"image": "AAAA"}, {"text": "a"}, "b"]}, ["AAAA", None, None]),
        ({"input": {"url": "https://h/i.png"}}, ["https://h/i.png"]),
        ({"input": ["a"], "modality": "text"}, None),
    ],
    ids=str,
)
def test_images_are_inputs_beside_texts(fields: dict[str, Any], images: Any) -> None:
    assert job(ROUTE, **fields).images == images


def test_token_ids_are_taken_where_the_models_own_configuration_says_so() -> None:
    native = ModelConfig(name="native", source="org/native", token_input="native")
    context = replace(CONTEXT, catalog=Catalog([native], fleet_of()))

    def request(given: Any) -> EmbedRequest:
        (only,) = ROUTE.parse(ROUTE.body.model_validate({"input": given}), context).requests
        assert isinstance(only, EmbedRequest)
        return only

    assert request([101, 7, 102]).token_ids == [[101, 7, 102]]
    several = request([[101, 7, 102], [101, 102]])
    assert (several.token_ids, several.items, several.characters) == ([[101, 7, 102], [101, 102]], 2, 20)
    with pytest.raises(EmptyInput, match="no token ids"):
        request([[101], []])
    with pytest.raises(TokenInputUnsupported):
        parsed(ROUTE, input=[101, 7, 102])
    with pytest.raises(ModelNotFound):
        parsed(ROUTE, input=[101, 7, 102], model="no-such-model")


def test_token_ids_are_judged_by_the_model_that_reads_them() -> None:
    # Given a reranker, a model that takes its own ids, and one for late interaction that takes none
    native = ModelConfig(name="native", source="org/native", token_input="native")
    cards = [
        card("rerank", "reranker"),
        card("native", kinds=[Kind.DENSE]),
        card("late", kinds=[Kind.MULTIVECTOR]),
    ]
    context = replace(CONTEXT, catalog=Catalog([config("rerank"), native, config("late")], fleet_of(*cards)))

    def parse(**fields: Any) -> None:
        ROUTE.parse(ROUTE.body.model_validate({"input": [101, 7, 102], **fields}), context)

    # Then, whether it is named or is the default for what is asked for
    parse()
    parse(model="native")
    for fields in ({"return_multivector": True}, {"return_multivector": True, "model": "late"}):
        with pytest.raises(TokenInputUnsupported):
            parse(**fields)


@pytest.mark.parametrize("field", ["model", "input_type", "task"])
def test_of_an_endless_name_only_the_beginning_is_repeated(field: str) -> None:
    one = ModelConfig(name="one", source="org/one", token_input="native")
    context = replace(CONTEXT, catalog=Catalog([one], fleet_of()))
    body = ROUTE.body.model_validate({"input": [101], field: "x" * 1_000_000})

    with pytest.raises((InvalidRequest, ModelNotFound)) as caught:
        ROUTE.parse(body, context)

    assert len(caught.value.message) < 1000
