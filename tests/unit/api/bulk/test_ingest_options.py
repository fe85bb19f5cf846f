"""Options of an ingest, from text and from JSON."""

from typing import Any

import orjson
import pytest

from api.bulk.ingest_options import IngestOptions, embed_options, job_spec, read_options, refuse_options_of_jobs
from api.settings import ApiSettings
from shared.bulk.jobs import EmbedOptions, Kind
from shared.errors import InvalidRequest
from shared.results import Precision

SECRET = "whsec_" + "A" * 32


def test_a_query_and_json_say_the_same() -> None:
    query = read_options(
        {
            "model": "m",
            "kinds": "dense, sparse",
            "dimensions": "8",
            "normalize": "false",
            "precision": "int8",
            "encoding": "base64",
            "gzip": "true",
            "priority": "-3",
            "metadata": '{"team":"search"}',
            "webhook": "https://example.org/hook",
            "sink": "qdrant",
            "sink_options": '{"collection":"docs"}',
        },
        is_text=True,
    )
    json = read_options(
        {
            "model": "m",
            "kinds": ["dense", "sparse"],
            "dimensions": 8,
            "normalize": False,
            "precision": "int8",
            "encoding": "base64",
            "gzip": True,
            "priority": -3,
            "metadata": {"team": "search"},
            "webhook": {"url": "https://example.org/hook"},
            "sink": "qdrant",
            "sink_options": {"collection": "docs"},
        },
        is_text=False,
    )
    assert query == json


def test_without_options_documents_get_one_dense_vector() -> None:
    assert embed_options(read_options({}, is_text=False)) == EmbedOptions()


def test_the_job_has_what_was_asked_for() -> None:
    options = read_options(
        {"kinds": "dense,dense", "precision": "ubinary", "by_reference": "1", "priority": "5"}, is_text=True
    )
    spec = job_spec(options, "org/model", ApiSettings(job_timeout_s=60, job_results_ttl_s=70), endpoint="whe_1")
    assert (spec.kind, spec.model, spec.priority) == (Kind.INGEST, "org/model", 5)
    assert spec.id.startswith("job_")
    assert (spec.options.kinds, spec.options.precision) == (["dense"], Precision.UBINARY)
    assert (spec.delivery.endpoint, spec.delivery.by_reference) == ("whe_1", True)
    assert (spec.expires_at - spec.created_at, spec.results_ttl_s) == (60, 70)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"modle": "m"}, "modle"),
        ({"kinds": ""}, "kinds"),
        ({"kinds": "dense,dence"}, "kinds"),
        ({"dimensions": "0"}, "dimensions"),
        ({"dimensions": "many"}, "dimensions"),
        ({"precision": "float8"}, "precision"),
        ({"encoding": "hex"}, "encoding"),
        ({"priority": "101"}, "priority"),
        ({"metadata": "{"}, "metadata"),
        ({"metadata": "[1]"}, "metadata"),
        ({"metadata": '{"a":' * 300 + "1" + "}" * 300}, "metadata"),
        ({"metadata": orjson.dumps({"x": "y" * 20_000}).decode()}, "metadata"),
        ({"input_type": "title"}, "input_type"),
    ],
)
def test_a_bad_option_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_options(given, is_text=True)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"webhook": {"url": "https://a", "endpoint": "whe_1"}}, "webhook"),
        ({"webhook": {"endpoint": "whe_1", "secret": SECRET}}, "webhook"),
        ({"webhook": {"uri": "https://a"}}, "webhook"),
        ({"dimensions": "3"}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"dimensions": 3.5}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"truncate": "true"}, "truncate"),
        ({"truncate": 1}, "truncate"),
        ({"priority": "3"}, "priority"),
        ({"kinds": "dense"}, "kinds"),
        ({"metadata": "{}"}, "metadata"),
        ({"metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"webhook": "https://a"}, "webhook"),
        ({"model": 3}, "model"),
    ],
)
def test_options_in_json_are_of_the_documented_types(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_options(given, is_text=False)
    assert caught.value.param == param


def test_a_whole_number_may_be_written_as_json_schema_allows() -> None:
    options = read_options({"dimensions": 4.0, "priority": -3.0, "precision": "int8"}, is_text=False)
    assert (options.dimensions, options.priority, options.precision) == (4, -3, Precision.INT8)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"kinds": "sparse", "dimensions": "8"}, "dense vectors"),
        ({"kinds": "multivector", "precision": "int8"}, "dense vectors"),
        ({"kinds": "scores"}, "'dense', 'sparse' or 'multivector'"),
        ({"webhook": "https://a", "webhook_endpoint": "whe_1"}, "exclude each other"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        read_options(given, is_text=True)


def test_the_receiver_is_a_url_with_its_secret_or_an_endpoint() -> None:
    url = read_options({"webhook": "https://a"}, is_text=True)
    with_secret = url.target(SECRET)
    assert with_secret is not None
    assert (with_secret.url, with_secret.secret) == ("https://a", SECRET)
    endpoint = IngestOptions(webhook_endpoint="whe_1").target(None)
    assert endpoint is not None
    assert endpoint.endpoint == "whe_1"
    assert IngestOptions().target(None) is None


@pytest.mark.parametrize(
    "given", [{}, {"webhook_endpoint": "whe_1"}, {"webhook": {"url": "https://a", "secret": SECRET}}]
)
def test_a_secret_without_a_url_of_its_own_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="x-webhook-secret"):
        read_options(given, is_text=False).target(SECRET)


def test_what_only_jobs_have_is_refused_where_there_is_none() -> None:
    with pytest.raises(InvalidRequest, match="`webhook` is for jobs"):
        refuse_options_of_jobs({"model": "m", "webhook": "https://a"})
    refuse_options_of_jobs({"model": "m", "encoding": "base64"})
