"""What a user sends and gets, over HTTP, through the real queue, on the real weights."""

import base64
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import openai
import pytest

from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
#: Published by sentence-transformers for all-MiniLM-L6-v2.
SIMILARITIES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}


def assert_published(vectors: np.ndarray) -> None:
    for (first, second), similarity in SIMILARITIES.items():
        assert vectors[first] @ vectors[second] == pytest.approx(similarity, abs=1e-3)


def test_embed_gives_the_published_similarities(service: Service) -> None:
    with service.client() as client:
        response = client.post("/embed", json={"inputs": SENTENCES})

    assert response.status_code == 200
    assert_published(np.array(response.json()))


def test_the_openai_client_gets_the_published_similarities_as_base64_and_as_floats(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused")

    by_default = client.embeddings.create(model="all-MiniLM-L6-v2", input=SENTENCES)  # asks for base64 by itself
    floats = client.embeddings.create(model="all-MiniLM-L6-v2", input=SENTENCES, encoding_format="float")

    assert_published(np.array([entry.embedding for entry in by_default.data]))
    assert_published(np.array([entry.embedding for entry in floats.data]))
    assert [entry.index for entry in floats.data] == [0, 1, 2]
    assert by_default.usage.prompt_tokens == 25  # 8, 8 and 9 with [CLS] and [SEP]


def test_base64_is_little_endian_float32(service: Service) -> None:
    with service.client() as client:
        body = {"input": SENTENCES[0], "encoding_format": "base64"}
        encoded = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
        plain = client.post("/embed", json={"inputs": SENTENCES[0]}).json()[0]

    np.testing.assert_allclose(np.frombuffer(base64.b64decode(encoded), dtype="<f4"), plain, atol=1e-6)


def test_dimensions_cuts_and_normalises_again(service: Service) -> None:
    with service.client() as client:
        full = np.array(client.post("/embed", json={"inputs": SENTENCES[0]}).json()[0])
        body = {"input": SENTENCES[0], "dimensions": 64, "encoding_format": "float"}
        cut = np.array(client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"])

    assert cut.shape == (64,)
    np.testing.assert_allclose(cut, full[:64] / np.linalg.norm(full[:64]), atol=1e-6)


def test_vectors_come_in_fewer_bytes_and_mean_the_same(service: Service) -> None:
    with service.client() as client:

        def embed(**fields: Any) -> npt.NDArray[np.float32]:
            answer = client.post("/v1/embeddings", json={"input": SENTENCES, **fields}).raise_for_status().json()
            return np.array([entry["embedding"] for entry in answer["data"]], np.float32)

        floats, half, eighth = embed(), embed(output_dtype="float16"), embed(output_dtype="int8")
        bits = embed(output_dtype="ubinary").astype(np.uint8)
        tei = client.post("/embed", json={"inputs": SENTENCES, "output_dtype": "int8"}).json()

    np.testing.assert_allclose(half, floats, atol=1e-3)
    lengths = np.linalg.norm(eighth, axis=1, keepdims=True)
    np.testing.assert_allclose((eighth / lengths) @ (eighth / lengths).T, floats @ floats.T, atol=0.01)
    np.testing.assert_array_equal(bits, np.packbits(floats > 0, axis=1))
    assert tei == eighth.tolist()


def test_late_chunking_reads_the_inputs_as_one_document(service: Service) -> None:
    with service.client() as client:
        body = {"input": ["Berlin is a capital.", "Its people are many."], "late_chunking": True}
        together = client.post("/v1/embeddings", json=body).raise_for_status().json()
        apart = client.post("/v1/embeddings", json={**body, "late_chunking": False}).raise_for_status().json()
        too_long = client.post("/v1/embeddings", json={"input": ["river " * 200] * 3, "late_chunking": True})

    vectors = [np.array([entry["embedding"] for entry in answer["data"]]) for answer in (together, apart)]
    assert vectors[0].shape == vectors[1].shape
    similarities = [float(pair[0] @ pair[1]) for pair in vectors]
    assert similarities[0] > similarities[1] + 0.2, "the second sentence learns what it is about"
    assert together["usage"]["total_tokens"] < apart["usage"]["total_tokens"], "special tokens are read once"
    assert too_long.status_code == 400
    assert "one document" in too_long.json()["error"]["message"]


def test_the_models_are_listed(service: Service) -> None:
    models = openai.OpenAI(base_url=f"{service.url}/v1", api_key="unused").models.list().data

    assert [model.id for model in models] == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_rerank_speaks_tei_and_cohere_on_the_same_path(service: Service) -> None:
    query = "How is the weather?"
    with service.client() as client:
        tei = client.post("/rerank", json={"query": query, "texts": SENTENCES, "return_text": True}).json()
        cohere = client.post("/rerank", json={"query": query, "documents": SENTENCES, "top_n": 2}).json()
        versioned = client.post("/v1/rerank", json={"query": query, "documents": SENTENCES}).json()

    assert [rank["index"] for rank in tei] == [0, 1, 2]
    assert tei[0]["text"] == SENTENCES[0]
    assert [result["index"] for result in cohere["results"]] == [0, 1]
    scores = [result["relevance_score"] for result in versioned["results"]]
    assert scores == pytest.approx([rank["score"] for rank in tei], abs=1e-6)


def test_rerank_on_an_embedding_model_is_cosine_similarity(service: Service) -> None:
    with service.client() as client:
        query, *documents = np.array(client.post("/embed", json={"inputs": ["the weather", *SENTENCES]}).json())
        ranks = client.post("/rerank", json={"query": "the weather", "texts": SENTENCES}).json()

    for rank in ranks:
        assert rank["score"] == pytest.approx(float(query @ documents[rank["index"]]), abs=1e-5)


def test_a_large_request_is_split_and_comes_back_whole_and_in_order(service: Service) -> None:
    # Given more texts than one batch takes
    texts = [f"Document {number} speaks of {'water ' * (number % 40)}mills." for number in range(600)]

    # When they are sent in one request
    with service.client() as client:
        vectors = np.array(client.post("/embed", json={"inputs": texts}).json())
        alone = np.array([client.post("/embed", json={"inputs": texts[n]}).json()[0] for n in (0, 1, 299, 599)])

    # Then every vector is where it belongs, and the company does not change it
    assert vectors.shape == (600, 384)
    np.testing.assert_allclose(vectors[[0, 1, 299, 599]], alone, atol=1e-5)


@pytest.mark.parametrize("texts", [1, 40])
def test_the_stages_of_a_request_fit_into_its_time(service: Service, texts: int) -> None:
    # Given texts that are many batches where there are many
    inputs = [" ".join(f"madeup{number}word{place}" for place in range(60)) for number in range(texts)]

    with service.client() as client:
        headers = client.post("/embed", json={"inputs": inputs}).raise_for_status().headers

    stages = [int(headers[f"x-{stage}-time"]) for stage in ("queue", "tokenization", "inference")]
    assert stages[2] > 0
    assert sum(stages) <= int(headers["x-total-time"])


def test_the_bulk_lane_answers_too(service: Service) -> None:
    with service.client() as client:
        response = client.post("/embed", json={"inputs": SENTENCES}, headers={"x-millrace-lane": "bulk"})

    assert_published(np.array(response.json()))


@pytest.mark.parametrize("path", ["/embed", "/embed/"])
def test_a_trailing_slash_makes_no_difference(service: Service, path: str) -> None:
    with service.client() as client:
        assert client.post(path, json={"inputs": "x"}, follow_redirects=False).status_code == 200


def test_a_cut_text_is_reported_and_refused_on_request(service: Service) -> None:
    long = "water " * 1000
    with service.client() as client:
        cut = client.post("/embed", json={"inputs": [long, "short"]})
        refused = client.post("/embed", json={"inputs": long, "truncate": False})

    assert cut.headers["x-truncated-inputs"] == "1"
    assert refused.status_code == 422
    assert "1002 tokens" in refused.json()["error"]
    assert "256" in refused.json()["error"]


#: More than one task holds, the last of them longer than the model reads.
MANY = ["the quick brown fox jumps over the lazy dog and runs away from the bear in the wood "] * 99 + ["word " * 300]


@pytest.mark.parametrize(
    ("path", "body", "place", "param"),
    [
        ("/v1/embeddings", {"input": MANY, "truncate": False}, "input[99]", "input"),
        ("/embed", {"inputs": MANY, "truncate": False}, "inputs[99]", None),
        ("/v2/embed", {"texts": MANY, "truncate": "NONE"}, "texts[99]", "texts"),
        ("/rerank", {"query": "a fox", "documents": MANY, "truncate": False}, "documents[99]", "documents"),
        (
            "/rerank",
            {"query": "a", "documents": ["ok", "word " * 2000], "truncate": False},
            "documents[1]",
            "documents",
        ),
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b", "word " * 300]}, "parameters": {"truncate": False}},
            "inputs.sentences[1]",
            None,
        ),
        ("/score", {"queries": "word " * 300, "documents": "a", "truncate": False}, "queries", "queries"),
    ],
)
def test_a_text_that_is_too_long_is_the_one_that_is_named(
    service: Service, path: str, body: dict[str, Any], place: str, param: str | None
) -> None:
    with service.client() as client:
        refused = client.post(path, json=body)

    assert refused.status_code in (400, 422)
    problem = refused.json()
    assert problem["message"].startswith(f"`{place}` has ")
    if param is not None:  # TEI's errors have no place for it
        assert problem["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/embed", {"inputs": ""}, 400, "cannot be empty"),
        ("/embed", {"inputs": ["a", ""]}, 400, "inputs[1]"),
        ("/embed", {}, 422, "inputs"),
        ("/embed", {"inputs": "a", "model": "nobody"}, 404, "nobody"),
        ("/rerank", {"query": "a", "texts": []}, 400, "texts"),
    ],
)
def test_tei_errors_are_flat_with_the_status_of_tei(
    service: Service, path: str, body: dict[str, object], status: int, words: str
) -> None:
    with service.client() as client:
        response = client.post(path, json=body)

    assert response.status_code == status
    assert words in response.json()["error"]
    assert response.json()["error_type"] in {"Empty", "Validation"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/embeddings", {"input": ""}, 400, "empty_input"),
        ("/v1/embeddings", {"input": "a", "model": "nobody"}, 404, "model_not_found"),
        ("/v1/embeddings", {"input": "a", "dimensions": 4096}, 400, "unsupported_by_model"),
        ("/v1/embeddings", {"input": [1, 2, 3]}, 400, "token_input_unsupported"),
        ("/v1/rerank", {"query": "a", "documents": []}, 400, "empty_input"),
        ("/v1/rerank", {"query": "a"}, 400, "invalid_request"),
    ],
)
def test_openai_and_cohere_errors_are_nested_with_a_code(
    service: Service, path: str, body: dict[str, object], status: int, code: str
) -> None:
    with service.client() as client:
        response = client.post(path, json=body)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.json()["detail"] == response.json()["error"]["message"]


def test_a_deadline_that_cannot_be_met_is_a_504(service: Service) -> None:
    with service.client() as client:
        response = client.post(
            "/embed", json={"inputs": ["a long text " * 100] * 64}, headers={"x-request-timeout": "0.05"}
        )

    assert response.status_code == 504
    assert "deadline" in response.json()["error"] or "expired" in response.json()["error"]


def test_the_request_id_is_echoed_and_logged(service: Service) -> None:
    with service.client() as client:
        response = client.post("/embed", json={"inputs": "x"}, headers={"x-request-id": "traced-42"})

    assert response.headers["x-request-id"] == "traced-42"
    wait_until(lambda: "request_id=traced-42" in service.log(), what="the line in the log")


def test_no_text_of_a_user_reaches_the_log(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": "a very private sentence"})
        last = client.post("/embed", json={"inputs": ["another private one", ""]})

    wait_until(lambda: f"request_id={last.headers['x-request-id']}" in service.log(), what="the last request's line")
    assert "private" not in service.log()


def test_the_gateway_stays_under_150_mb(service: Service) -> None:
    with service.client() as client:
        client.post("/embed", json={"inputs": ["a text"] * 512})

    assert service.part("api").memory_info().rss < 150e6


def test_the_interactive_documentation_lists_every_route(service: Service) -> None:
    paths = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()["paths"]

    assert {"/embed", "/rerank", "/info", "/health", "/ready", "/metrics"} <= set(paths)
    assert {"/v1/embeddings", "/v1/models", "/v1/rerank"} <= set(paths)
