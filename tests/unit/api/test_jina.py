"""Jina's dialect: what its clients read, and zero-shot classification."""

from typing import Any

import numpy as np
import pytest

from api.dialects.jina import PLUGIN, claims
from shared.errors import EmptyInput, ModelNotFound
from shared.jobs import EmbedRequest
from tests.helpers.dialects import answered, job, parsed, rendered
from tests.helpers.outputs import output

ROUTES = {route.paths[0]: route for route in PLUGIN.routes}
RERANK, EMBED, CLASSIFY = ROUTES["/v1/rerank"], ROUTES["/v1/embeddings"], ROUTES["/v1/classify"]


def test_rerank_and_embeddings_answer_as_jina_under_its_prefix_only() -> None:
    assert (RERANK.prefix_only, EMBED.prefix_only, CLASSIFY.prefix_only) == (True, True, False)


def test_documents_are_returned_unless_they_are_declined() -> None:
    documents = ["a", {"text": "b"}]

    by_default = answered(RERANK, query="q", documents=documents)
    declined = answered(RERANK, query="q", documents=documents, return_documents=False)

    assert by_default["object"] == "list"
    assert [result["document"] for result in by_default["results"]] == [{"text": "b"}, {"text": "a"}]
    assert all("document" not in result for result in declined["results"])
    assert by_default["usage"]["total_tokens"] == 6


def test_embeddings_take_jinas_options() -> None:
    answer = answered(EMBED, input=[{"text": "a"}, "b"], task="retrieval.query", embedding_type="binary", truncate=True)

    assert [len(entry["embedding"]) for entry in answer["data"]] == [2, 2]


def test_a_body_with_labels_is_to_be_classified_without_training() -> None:
    assert claims({"input": ["a"], "labels": ["x"]})
    assert not claims({"input": ["a"]})


def test_inputs_and_labels_are_embedded_together_with_the_prompt_for_classification() -> None:
    request = parsed(CLASSIFY, input=["a", {"text": "b"}], labels=["x", "y"])

    assert isinstance(request, EmbedRequest)
    assert request.texts == ["a", "b", "x", "y"]
    assert "classification" in request.prompt_names


def test_an_over_long_input_is_refused_where_the_caller_does_not_want_it_cut() -> None:
    for word in ("truncate", "truncation"):
        assert parsed(CLASSIFY, input=["a"], labels=["x"], **{word: False}).truncate is False


def test_images_are_classified_too() -> None:
    assert job(CLASSIFY, input=[{"image": "i"}, "a"], labels=["x"]).images == ["i", None, None]


def test_each_input_has_its_labels_best_first_with_scores_that_add_up_to_1() -> None:
    # Given two inputs, of which each is a label's very vector
    vectors = output([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])

    # When
    first, second = rendered(CLASSIFY, vectors, input=["a", "b"], labels=["x", "y"])["data"]

    # Then
    e = float(np.e)
    assert (first["index"], first["object"], first["prediction"]) == (0, "classification", "x")
    assert first["score"] == pytest.approx(e / (e + 1))
    assert [entry["label"] for entry in second["predictions"]] == ["y", "x"]
    assert sum(entry["score"] for entry in second["predictions"]) == pytest.approx(1.0)


def test_an_answer_to_classify_has_its_documented_form() -> None:
    assert len(answered(CLASSIFY, input=["a", "b"], labels=["x", "y", "z"])["data"]) == 2


@pytest.mark.parametrize(
    ("fields", "where"),
    [({"input": [], "labels": ["x"]}, "input"), ({"input": ["a"], "labels": []}, "labels")],
)
def test_nothing_to_classify_and_nothing_to_choose_from_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(EmptyInput) as raised:
        parsed(CLASSIFY, **fields)

    assert raised.value.param == where


def test_an_error_has_the_detail_that_jinas_clients_raise() -> None:
    status, body = PLUGIN.render_error(ModelNotFound("no such model"))

    assert (status, body["detail"]) == (404, "no such model")
