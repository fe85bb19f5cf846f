"""One model behind every provider's words, through the real queue, on the real weights."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.service import Service

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


def _post(client: httpx.Client, path: str, **body: Any) -> Any:
    return client.post(path, json=body).raise_for_status().json()


def test_every_provider_gives_the_same_vectors(service: Service) -> None:
    with service.client() as client:
        expected = np.array(_post(client, "/embed", inputs=SENTENCES))

        openai_like = [
            _post(client, path, input=SENTENCES, **fields)["data"]
            for path, fields in [
                ("/v1/embeddings", {"task": "retrieval.passage"}),
                ("/openai/v1/embeddings/", {"normalize": True}),
                ("/jina/v1/embeddings", {"embedding_type": "float"}),
                ("/voyage/v1/embeddings", {"input_type": "document", "truncation": True}),
                ("/vllm/v1/embeddings", {"truncate_prompt_tokens": -1}),
                ("/infinity/embeddings", {"modality": "text"}),
            ]
        ]
        cohere = _post(client, "/v2/embed", texts=SENTENCES, input_type="search_document", embedding_types=["base64"])
        messages = _post(client, "/v1/embeddings", messages=[{"role": "user", "content": SENTENCES[0]}])

    for data in openai_like:
        np.testing.assert_allclose([entry["embedding"] for entry in data], expected, atol=1e-6)
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in cohere["embeddings"]["base64"]]
    np.testing.assert_allclose(decoded, expected, atol=1e-6)
    np.testing.assert_allclose(messages["data"][0]["embedding"], expected[0], atol=1e-6)


def test_a_prefix_field_is_put_in_front_of_each_text(service: Service) -> None:
    with service.client() as client:
        (expected,) = _post(client, "/embed", inputs="query: hello")
        vectors = [
            _post(client, "/v1/embeddings", input="hello", prefix="query: ")["data"][0]["embedding"],
            _post(client, "/api/embed", input="hello", prefix="query: ")["embeddings"][0],
            _post(client, "/embeddings/", sentences=["hello"], prefix="query: ", normalize_dense=True)["data"][0][
                "embeddings"
            ]["dense"],
        ]

    np.testing.assert_allclose(vectors, [expected] * 3, atol=1e-6)


def test_scores_of_pairs_are_cosines_in_input_order_however_they_are_paired(service: Service) -> None:
    with service.client() as client:
        vectors = np.array(_post(client, "/embed", inputs=SENTENCES))
        one_to_many = _post(client, "/score", queries=SENTENCES[0], documents=SENTENCES)
        many_to_many = _post(client, "/v1/score", text_1=[SENTENCES[0]] * 3, text_2=SENTENCES)
        ranked = _post(client, "/v1/rerank", query=SENTENCES[0], documents=SENTENCES)

    expected = np.maximum(vectors @ vectors[0], 0)
    for answer in (one_to_many, many_to_many):
        assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
        np.testing.assert_allclose([entry["score"] for entry in answer["data"]], expected, atol=1e-5)
    assert [result["index"] for result in ranked["results"]] == np.argsort(-(vectors @ vectors[0])).tolist()


def test_scores_are_between_0_and_1_in_every_dialect_unless_raw_ones_are_asked_for(service: Service) -> None:
    query, documents = "quarterly tax filing deadline", ["penguins on ice", "<html>", "when are taxes due"]
    asked = {"query": query, "documents": documents}
    with service.client() as client:
        vectors = np.array(_post(client, "/embed", inputs=[query, *documents]))
        cohere, raw = (_post(client, "/v1/rerank", **asked, raw_scores=wanted)["results"] for wanted in (False, True))
        others = {
            "voyage": _post(client, "/rerank", **asked, top_k=3)["data"],
            "tei": _post(client, "/rerank", query=query, texts=documents),
            "smart": _post(client, "/rerank", query=query, passages=documents, normalize=True)["results"],
        }
        weaviate = _post(client, "/rerank", **asked, property="")["scores"]
        pairs = _post(client, "/v1/score", queries=query, documents=documents)["data"]

    cosines = vectors[1:] @ vectors[0]
    order = np.argsort(-cosines).tolist()
    assert (cosines < 0).sum() > 1  # so that the order of what is cut can be seen
    np.testing.assert_allclose([result["relevance_score"] for result in raw], cosines[order], atol=1e-5)
    for results in (cohere, *others.values()):
        assert [result["index"] for result in results] == order
        shown = [result.get("relevance_score", result.get("score")) for result in results]
        np.testing.assert_allclose(shown, np.maximum(cosines[order], 0), atol=1e-5)
    for in_input_order in (weaviate, pairs):
        shown = [result["score"] for result in in_input_order]
        np.testing.assert_allclose(shown, np.maximum(cosines, 0), atol=1e-5)


def test_one_empty_document_costs_the_others_nothing_in_any_dialect(service: Service) -> None:
    documents = ["It's so sunny outside!", ""]
    asked = {"query": SENTENCES[0], "documents": documents}
    with service.client() as client:
        answers = [
            _post(client, "/v1/rerank", **asked)["results"],
            _post(client, "/v1/rerank", **asked, top_k=2)["data"],
            _post(client, "/v1/score", **{"text_1": SENTENCES[0], "text_2": documents})["data"],
            _post(client, "/rerank", query=SENTENCES[0], texts=documents),
            _post(client, "/rerank", query=SENTENCES[0], passages=documents)["results"],
        ]

    by_index = [sorted(answer, key=lambda result: result["index"]) for answer in answers]
    scores = [[result.get("relevance_score", result.get("score")) for result in answer] for answer in by_index]
    np.testing.assert_allclose(scores, [scores[0]] * len(answers), atol=1e-5)
    assert scores[0][0] > scores[0][1]


def test_inputs_are_classified_by_labels_that_the_request_brings(service: Service) -> None:
    with service.client() as client:
        data = _post(client, "/v1/classify", input=SENTENCES, labels=["weather", "driving a car"])["data"]

    assert [entry["prediction"] for entry in data] == ["weather", "weather", "driving a car"]


def test_a_text_is_cut_at_the_length_that_the_caller_chose(service: Service) -> None:
    def vectors(client: httpx.Client, path: str, **body: Any) -> Any:
        answer = client.post(path, json=body).raise_for_status()
        return answer.json()["data" if "data" in answer.json() else "embeddings"]

    # Given three words in five tokens
    with service.client() as client:
        (short,) = vectors(client, "/v1/embeddings", input="the weather is")
        (cut,) = vectors(client, "/v1/embeddings", input="the weather is lovely today", truncate_prompt_tokens=5)
        cohere = vectors(client, "/v2/embed", texts=["the weather is lovely today"], max_tokens=5)
        refused = client.post(
            "/v2/embed", json={"texts": ["the weather is lovely"], "max_tokens": 5, "truncate": "NONE"}
        )
        rerank = {"query": "how is the weather", "documents": ["the weather is lovely", "the weather is bad"]}
        scores = client.post("/rerank", json={**rerank, "max_tokens_per_doc": 3}).raise_for_status().json()["results"]

    np.testing.assert_allclose(cut["embedding"], short["embedding"], atol=1e-6)
    np.testing.assert_allclose(cohere["float"][0], short["embedding"], atol=1e-6)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "texts")
    assert scores[0]["relevance_score"] == pytest.approx(scores[1]["relevance_score"], abs=1e-6)


def test_a_long_text_is_cut_at_the_end_that_the_caller_chose(service: Service) -> None:
    long = f"{SENTENCES[2]} " + "sunny weather " * 1000

    with service.client() as client:
        ends, starts = (
            np.array(_post(client, "/v2/embed", texts=[long], truncate=side)["embeddings"]["float"][0])
            for side in ("END", "START")
        )
        tail = np.array(_post(client, "/embed", inputs="sunny weather " * 1000)[0])
        refused = client.post("/v1/embeddings", json={"input": long, "truncate": False})

        for path, strict in (
            ("/classify", {"input": ["b", long], "labels": ["x", "y"], "truncate": False}),
            ("/", {"inputs": long, "parameters": {"truncate": False}}),
        ):
            assert "context_length_exceeded" in client.post(path, json=strict).text, path

    assert starts @ tail > ends @ tail + 0.01
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/pooling", {"input": "a"}),
        ("/classify", {"input": "a"}),
        ("/v1/embeddings", {"input": "a", "prompt_name": "x"}),
    ],
    ids=["pooling", "classify", "prompt"],
)
def test_what_the_model_does_not_do_is_refused_with_what_it_does(
    service: Service, path: str, body: dict[str, Any]
) -> None:
    with service.client() as client:
        refused = client.post(path, json={"model": "all-MiniLM-L6-v2", **body})

    assert refused.status_code == 400
    assert "it does:" in refused.text or "it makes:" in refused.text or "it has: none" in refused.text
