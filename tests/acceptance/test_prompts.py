"""What a text is said to be chooses the model's prompt, the same in every dialect's words."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from tests.helpers.service import Service
from tests.helpers.tiny_models import embedding_model, masked_language_model

TEXT = "How is the weather?"
DOCUMENTS = ["It is sunny.", "He drove to work."]
#: By the names of Jina v3's.
PROMPTS = {"retrieval.query": "Find evidence: ", "retrieval.passage": "Evidence text: "}
QUERY, DOCUMENT = PROMPTS.values()

Ask = Callable[[httpx.Client], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a dense and a sparse model with these prompts."""
    folder = tmp_path_factory.mktemp("prompts")
    embedding_model(folder / "made", "bert").rename(folder / "dense")
    modules = [MLMTransformer(str(masked_language_model(folder / "bare", "bert"))), SpladePooling("max")]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder / "sparse"), create_model_card=False)
    for name in ("dense", "sparse"):
        path = folder / name / "config_sentence_transformers.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": PROMPTS}))
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    """A client of a service with both models."""
    entries = [{"name": name, "source": str(folder / name)} for name in ("dense", "sparse")]
    (folder / "models.yaml").write_text(json.dumps({"models": entries}))
    service = Service(folder, {"MILLRACE_MODELS_FILE": str(folder / "models.yaml")})
    service.start()
    with service.client() as client:
        yield client
    service.stop()


@pytest.fixture(scope="module")
def reference(folder: Path) -> SentenceTransformer:
    """The dense model in sentence-transformers."""
    return SentenceTransformer(str(folder / "dense"), device="cpu")


def _encoded(reference: SentenceTransformer, texts: list[str], prompt: str) -> npt.NDArray[np.float32]:
    return reference.encode(texts, prompt=prompt, normalize_embeddings=True, show_progress_bar=False)


def _post(client: httpx.Client, path: str, **body: Any) -> Any:
    return client.post(path, json=body).raise_for_status().json()


def _openai(**said: str) -> Ask:
    return lambda client: _post(client, "/v1/embeddings", input=TEXT, **said)["data"][0]["embedding"]


def _smart_embedder(input_type: str) -> Ask:
    body = {"sentences": [TEXT], "input_type": input_type, "normalize_dense": True}
    return lambda client: _post(client, "/embeddings/", **body)["data"][0]["embeddings"]["dense"]


def _cohere(input_type: str) -> Ask:
    body = {"texts": [TEXT], "input_type": input_type, "embedding_types": ["float"]}
    return lambda client: _post(client, "/v2/embed", **body)["embeddings"]["float"][0]


def _hybrid(input_type: str) -> Ask:
    body = {"input": TEXT, "input_type": input_type, "model": "dense"}
    return lambda client: _post(client, "/v1/hybrid", **body)["data"][0]["dense"]


def _ollama(input_type: str) -> Ask:
    return lambda client: _post(client, "/api/embed", input=TEXT, input_type=input_type)["embeddings"][0]


def _weaviate(task_type: str) -> Ask:
    return lambda client: _post(client, "/vectors", text=TEXT, config={"task_type": task_type})["vector"]


def _qdrant(**said: str) -> Ask:
    inputs = [{"data": TEXT, "model": "dense"}]
    return lambda client: _post(client, "/qdrant/inference", inputs=inputs, **said)["embeddings"][0]


def _ingest(**said: str) -> Ask:
    def ask(client: httpx.Client) -> Any:
        form = dict.fromkeys(("accept", "content-type"), "application/x-ndjson")
        answer = client.post("/v1/ingest", params=said, headers=form, content=json.dumps({"text": TEXT}) + "\n")
        return json.loads(answer.raise_for_status().text.splitlines()[0])["embedding"]

    return ask


def _tei(prompt_name: str) -> Ask:
    return lambda client: _post(client, "/embed", inputs=TEXT, prompt_name=prompt_name)[0]


#: What is asked, by the prompt that it means.
ASKS: dict[str, dict[str, Ask]] = {
    QUERY: {
        "Voyage": _openai(input_type="query"),
        "Jina": _openai(task="retrieval.query"),
        "Jina, in code": _openai(task="nl2code.query"),
        "Cohere": _cohere("search_query"),
        "Smart-Embedder": _smart_embedder("query"),
        "hybrid": _hybrid("query"),
        "Ollama": _ollama("query"),
        "Weaviate": _weaviate("query"),
        "Qdrant": _qdrant(inference="search"),
        "ingest": _ingest(input_type="query"),
        "TEI": _tei("retrieval.query"),
    },
    DOCUMENT: {
        "Voyage": _openai(input_type="document"),
        "Jina": _openai(task="retrieval.passage"),
        "Jina, in code": _openai(task="nl2code.passage"),
        "Cohere": _cohere("search_document"),
        "Smart-Embedder": _smart_embedder("passage"),
        "hybrid": _hybrid("document"),
        "Ollama": _ollama("document"),
        "Weaviate": _weaviate("passage"),
        "Qdrant": _qdrant(inference="update"),
        "Qdrant, by default": _qdrant(),
        "ingest": _ingest(input_type="document"),
        "ingest, by default": _ingest(),
        "TEI": _tei("retrieval.passage"),
    },
    "": {"Voyage": _openai(), "Jina": _openai(task="text-matching"), "Weaviate": _weaviate("")},
}


@pytest.mark.parametrize(
    ("prompt", "ask"),
    [
        pytest.param(prompt, ask, id=f"{prompt or 'none'}-{dialect}")
        for prompt, asks in ASKS.items()
        for dialect, ask in asks.items()
    ],
)
def test_every_dialect_has_the_vector_of_the_text_with_the_models_prompt(
    client: httpx.Client, reference: SentenceTransformer, prompt: str, ask: Ask
) -> None:
    (expected,) = _encoded(reference, [TEXT], prompt)

    np.testing.assert_allclose(ask(client), expected, atol=1e-5)


def test_documents_are_ranked_with_the_prompts_of_both_sides(
    client: httpx.Client, reference: SentenceTransformer
) -> None:
    body = {"query": TEXT, "documents": DOCUMENTS, "model": "dense", "raw_scores": True}
    ranked = _post(client, "/v1/rerank", **body)["results"]

    expected = _encoded(reference, DOCUMENTS, DOCUMENT) @ _encoded(reference, [TEXT], QUERY)[0]
    scores = {result["index"]: result["relevance_score"] for result in ranked}
    np.testing.assert_allclose([scores[0], scores[1]], expected, atol=1e-5)


@pytest.mark.parametrize(("input_type", "prompt"), [("query", QUERY), ("document", DOCUMENT), (None, "")])
def test_sparse_vectors_have_the_prompts_too(
    client: httpx.Client, folder: Path, input_type: str | None, prompt: str
) -> None:
    reference: Any = SparseEncoder(str(folder / "sparse"), device="cpu")
    (expected,) = reference.encode([TEXT], prompt=prompt, convert_to_sparse_tensor=False, show_progress_bar=False)

    (entries,) = _post(client, "/embed_sparse", inputs=TEXT, input_type=input_type)

    vector = np.zeros(len(expected))
    vector[[entry["index"] for entry in entries]] = [entry["value"] for entry in entries]
    np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_who_asks_for_another_prompt_is_told_those_of_the_folder_and_no_others(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": TEXT, "prompt_name": "question"})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith(
        "no prompt 'question'; it has: retrieval.query, retrieval.passage"
    )
