"""Voyage's dialect: what its client sends, and what it reads."""

import base64
from typing import Any

import numpy as np
import pytest

from api.dialects.voyage import PLUGIN, claims
from shared.errors import InvalidRequest, Overloaded
from shared.jobs import EmbedRequest, RerankRequest
from tests.helpers.dialects import answered, parsed

ROUTES = {route.paths[0]: route for route in PLUGIN.routes}
RERANK, EMBED = ROUTES["/v1/rerank"], ROUTES["/v1/embeddings"]


@pytest.mark.parametrize(
    ("fields", "is_voyages"),
    [
        ({"top_k": 3}, True),
        ({"truncation": False}, True),
        ({"top_k": 3, "top_n": 2}, False),
        ({"truncation": True, "top_n": 2}, False),
        ({}, False),
        ({"top_n": 3}, False),
    ],
    ids=str,
)
def test_top_k_or_truncation_without_top_n_is_voyages(fields: dict[str, Any], is_voyages: bool) -> None:
    assert claims({"query": "q", "documents": ["a"], **fields}) is is_voyages


def test_results_are_under_data_as_voyages_client_reads_them() -> None:
    answer = answered(RERANK, query="q", documents=["a", "b", "c"], top_k=2, truncation=True)

    assert (answer["object"], answer["usage"]) == ("list", {"total_tokens": 9})
    assert answer["data"] == [{"index": 2, "relevance_score": 0.75}, {"index": 1, "relevance_score": 0.5}]


def test_returned_documents_are_strings() -> None:
    answer = answered(RERANK, query="q", documents=["a", {"text": "b"}], truncation=True, return_documents=True)

    assert [entry["document"] for entry in answer["data"]] == ["b", "a"]


@pytest.mark.parametrize(("truncation", "expected"), [(True, True), (False, False), (None, True)])
def test_truncation_may_be_declined(truncation: bool | None, expected: bool) -> None:
    request = parsed(RERANK, query="q", documents=["a"], truncation=truncation)

    assert isinstance(request, RerankRequest)
    assert request.truncate is expected


def test_under_the_prefix_top_n_means_top_k_and_both_must_agree() -> None:
    assert len(answered(RERANK, query="q", documents=["a", "b"], top_n=1)["data"]) == 1
    with pytest.raises(InvalidRequest, match="`top_k` and `top_n` contradict"):
        parsed(RERANK, query="q", documents=["a"], top_k=1, top_n=2)


def test_embeddings_as_voyages_client_asks_for_them() -> None:
    # Given what version 0.5 sends for `embed(texts, output_dtype="int8")`
    fields = {
        "input": ["a", "b"],
        "model": "voyage-3",
        "input_type": "query",
        "truncation": True,
        "output_dtype": "int8",
        "output_dimension": 16,
        "encoding_format": "base64",
    }

    request = parsed(EMBED, **fields)
    answer = answered(EMBED, **fields)

    assert isinstance(request, EmbedRequest)
    assert (request.input_type, request.dimensions, request.precisions) == ("query", 16, ["int8"])
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), np.int8) for entry in answer["data"]]
    assert [len(row) for row in decoded] == [16, 16]
    assert answer["usage"]["total_tokens"] == 6


def test_explicit_nulls_are_nothing() -> None:
    nulls = {"input_type": None, "output_dtype": None, "output_dimension": None, "truncation": None}

    assert parsed(EMBED, input="a", **nulls) == parsed(EMBED, input="a")


def test_an_error_has_the_detail_that_voyages_client_shows() -> None:
    status, body = PLUGIN.render_error(Overloaded("later"))

    assert (status, body["detail"]) == (429, "later")
