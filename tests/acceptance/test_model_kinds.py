"""Models of several kinds behind one URL: each route finds the one that can do it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.check import check
from tests.helpers.service import Service
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import cross_encoder, embedding_model, masked_language_model

LABELS = ("bad", "good")
#: Entries of the tiny sparse model's vocabulary, which is BERT's.
_VOCABULARY = 30_522


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a dense embedder, a sparse one, a reranker and a classifier; all take their own token ids."""
    folder = tmp_path_factory.mktemp("kinds")
    models = [
        embedding_model(folder / "dense", "qwen3", pooling="lasttoken").rename(folder / "dense-model"),
        masked_language_model(folder / "sparse-model", "bert"),
        cross_encoder(folder / "rerank-model", "modernbert"),
        cross_encoder(folder / "label-model", "bert", labels=LABELS),
    ]
    entries = [{"name": model.name, "source": str(model), "token_input": "native"} for model in models]
    (folder / "models.yaml").write_text(json.dumps({"models": entries}))
    service = Service(folder, {"MILLRACE_MODELS_FILE": str(folder / "models.yaml")})
    service.start()
    yield service
    service.stop()


def _served(service: Service, name: str) -> Served:
    models = json.loads(Path(service.environment["MILLRACE_MODELS_FILE"]).read_text())["models"]
    return Served(next(Path(model["source"]) for model in models if model["name"] == name))


def test_each_route_finds_the_model_that_can_do_it(service: Service) -> None:
    with service.client() as client:
        dense = client.post("/embed", json={"inputs": "mill"})
        sparse = client.post("/embed_sparse", json={"inputs": ["mill", "race"]})
        ranks = client.post("/rerank", json={"query": "mill", "texts": ["race", "wheel"]})
        labels = client.post("/predict", json={"inputs": [["mill"], ["race", "wheel"]]})

    assert [response.status_code for response in (dense, sparse, ranks, labels)] == [200] * 4
    np.testing.assert_allclose(dense.json(), _served(service, "dense-model").embed(["mill"]), atol=1e-5)
    expected = _served(service, "rerank-model").rerank("mill", ["race", "wheel"])
    np.testing.assert_allclose(
        [rank["score"] for rank in sorted(ranks.json(), key=lambda r: r["index"])], expected, atol=1e-5
    )
    by_label = [{entry["label"]: entry["score"] for entry in entries} for entries in labels.json()]
    scores = _served(service, "label-model").classify(["mill", "race"], [None, "wheel"])
    np.testing.assert_allclose([[entry[label] for label in LABELS] for entry in by_label], scores, atol=1e-5)
    assert all(entry["value"] > 0 for entries in sparse.json() for entry in entries)


def test_scores_of_sparse_vectors_are_between_0_and_1_in_the_order_of_the_raw_ones(service: Service) -> None:
    asked = {"query": "mill race", "documents": ["wheel", "mill", "mill race"], "model": "sparse-model"}
    with service.client() as client:
        shown, raw = (
            client.post("/rerank", json={**asked, "raw_scores": wanted}).raise_for_status().json()["results"]
            for wanted in (False, True)
        )

    assert [result["index"] for result in shown] == [result["index"] for result in raw]
    dots = np.array([result["relevance_score"] for result in raw])
    assert dots.max() > 1
    np.testing.assert_allclose([result["relevance_score"] for result in shown], dots / (1 + dots), atol=1e-5)


def test_the_self_test_asks_every_model(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(service.url, timeout_s=30) == 0

    table = capsys.readouterr().out
    assert "9 of 9 checks passed" in table
    row = next(line for line in table.splitlines() if "every model" in line)
    for model in ("dense-model", "sparse-model", "rerank-model", "label-model"):
        assert model in row


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/embed_sparse", {"inputs": "a", "model": "dense-model"}, 424, "makes no sparse vectors; it makes: dense"),
        ("/embed", {"inputs": "a", "model": "sparse-model"}, 424, "makes no dense vectors; it makes: sparse"),
        ("/predict", {"inputs": "a", "model": "dense-model"}, 424, "does not classify"),
        ("/rerank", {"query": "a", "texts": ["b"], "model": "label-model"}, 424, "does not rerank"),
        ("/predict", {"inputs": []}, 422, "inputs"),
    ],
    ids=["sparse of dense", "dense of sparse", "labels of dense", "ranks of a classifier", "nothing"],
)
def test_what_a_model_cannot_do_is_refused_in_one_sentence(
    service: Service, path: str, body: dict[str, object], status: int, sentence: str
) -> None:
    with service.client() as client:
        response = client.post(path, json=body)

    assert response.status_code == status
    assert sentence in response.json()["error"]


def test_kinds_of_vectors_come_together_from_the_models_that_make_them(service: Service) -> None:
    texts = ["mill", "race wheel"]
    with service.client() as client:
        dense = client.post("/embed", json={"inputs": texts}).json()
        sparse = client.post("/embed_sparse", json={"inputs": texts}).json()
        hybrid = client.post("/v1/hybrid", json={"input": texts}).raise_for_status().json()
        smart = (
            client.post("/embeddings/", json={"sentences": texts, "normalize_dense": True}).raise_for_status().json()
        )
        inputs = [
            {"data": text, "data_type": "text", "model": model}
            for text in texts
            for model in ("dense-model", "sparse-model")
        ]
        qdrant = client.post("/qdrant/inference", json={"inputs": inputs}).raise_for_status().json()

    assert hybrid["models"] == {"dense": "dense-model", "sparse": "sparse-model"}
    for index in range(len(texts)):
        entry, embeddings = hybrid["data"][index], smart["data"][index]["embeddings"]
        np.testing.assert_allclose(entry["dense"], dense[index], atol=1e-6)
        np.testing.assert_allclose(embeddings["dense"], dense[index], atol=1e-6)
        np.testing.assert_allclose(qdrant["embeddings"][2 * index], dense[index], atol=1e-6)
        weights = _weights({value["index"]: value["value"] for value in sparse[index]})
        for vector in (entry["sparse"], qdrant["embeddings"][2 * index + 1]):
            by_entry = dict(zip(vector["indices"], vector["values"], strict=True))
            np.testing.assert_allclose(_weights(by_entry), weights, atol=1e-4)
        np.testing.assert_allclose(_weights(embeddings["sparse"]), weights, atol=1e-4)


def _weights(by_entry: dict[Any, float]) -> Any:
    """A sparse vector with its zeros: in other company an entry next to nothing may be there or not."""
    weights = np.zeros(_VOCABULARY)
    weights[list(map(int, by_entry))] = list(by_entry.values())
    return weights


def test_tokens_are_those_of_the_model_that_is_named(service: Service) -> None:
    with service.client() as client:
        tokens = {
            model: client.post("/tokenize", json={"inputs": "mill", "model": model}).raise_for_status().json()[0]
            for model in ("dense-model", "label-model")
        }
        ids = [token["id"] for token in tokens["label-model"]]
        text = client.post("/decode", json={"ids": ids, "model": "label-model"}).raise_for_status().json()

    assert [token["text"] for token in tokens["label-model"]] == ["[CLS]", "mill", "[SEP]"]
    assert [token["id"] for token in tokens["dense-model"]] != ids
    assert text == ["mill"]


@pytest.mark.parametrize(
    ("path", "model"), [("/embed", "dense-model"), ("/embed_sparse", "sparse-model"), ("/", "dense-model")]
)
def test_a_models_own_token_ids_stand_for_their_text_also_among_texts(service: Service, path: str, model: str) -> None:
    with service.client() as client:

        def post(route: str, **body: Any) -> Any:
            return client.post(route, json={"model": model, **body}).raise_for_status().json()

        ids = [token["id"] for token in post("/tokenize", inputs="mill race")[0]]
        expected = post(path, inputs=["mill race", "wheel", "mill race"])

        assert post(path, inputs=ids) == post(path, inputs=[ids]) == post(path, inputs="mill race")
        assert post(path, inputs=[ids, "wheel", ids]) == expected
