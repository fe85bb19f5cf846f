"""Sparse encoders give sentence-transformers' vectors, entry by entry."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, Router, SparseStaticEmbedding, SpladePooling
from transformers import AutoTokenizer, MegatronBertConfig, MegatronBertForMaskedLM

from shared.errors import InvalidRequest
from shared.jobs import EmbedRequest
from shared.model_config import ConfigurationError
from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import MAX_TOKENS, masked_language_model

TOLERANCE = 1e-5
#: (architecture, pooling, activation)
MODELS: list[tuple[str, Literal["max", "sum"], Literal["relu", "log1p_relu"]]] = [
    ("bert", "max", "relu"),
    ("bert", "sum", "relu"),
    ("bert", "max", "log1p_relu"),
    ("roberta", "max", "relu"),
    ("xlm-roberta", "max", "relu"),
    ("distilbert", "max", "relu"),
    ("modernbert", "max", "relu"),
    ("camembert", "sum", "log1p_relu"),
]


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as the reference runs it."""

    served: Served
    reference: SparseEncoder

    def expected(self, texts: list[str], input_type: str | None = None) -> npt.NDArray[np.float32]:
        """The reference's vectors, dense, shape (texts, vocabulary)."""
        encode = {"query": self.reference.encode_query, "document": self.reference.encode_document}
        vectors: Any = encode.get(input_type or "", self.reference.encode)(
            texts, batch_size=1, convert_to_sparse_tensor=False, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def dense(self, texts: list[str], width: int, input_type: str | None = None) -> npt.NDArray[np.float32]:
        """Our vectors of texts that share a batch, filled up with zeros."""
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=[Kind.SPARSE], input_type=input_type)
        output = self.served.answer(request)
        assert output.sparse is not None
        assert all(
            np.diff(row).min(initial=1) > 0 for row in _split(output.sparse.indices or b"", output.sparse.counts)
        )
        counts = np.frombuffer(output.sparse.counts, "<i4")
        columns = np.frombuffer(output.sparse.indices or b"", "<i4")
        full = np.zeros((len(texts), width), np.float32)
        full[np.repeat(np.arange(len(texts)), counts), columns] = np.frombuffer(output.sparse.values, "<f4")
        return full


def _split(indices: bytes, counts: bytes) -> list[npt.NDArray[np.int32]]:
    return np.split(np.frombuffer(indices, "<i4"), np.cumsum(np.frombuffer(counts, "<i4"))[:-1])


def _folder(path: Path, architecture: str, pooling: Any, activation: Any) -> Path:
    bare = masked_language_model(path / "bare", architecture)
    modules = [MLMTransformer(str(bare)), SpladePooling(pooling, activation_function=activation)]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(path / "model"), create_model_card=False)
    return path / "model"


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = _folder(tmp_path_factory.mktemp("splade"), *request.param)
    return Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))


def test_the_card_tells_what_it_makes(pair: Pair) -> None:
    card = pair.served.card

    assert (card.kinds, card.scoring, card.packed, card.dimensions) == (["sparse"], "dot", True, None)
    assert card.max_tokens == MAX_TOKENS


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_every_weight_is_the_references(pair: Pair, together: bool) -> None:
    expected = pair.expected(TEXTS)
    width = expected.shape[1]

    # When
    groups = [TEXTS] if together else [[text] for text in TEXTS]
    vectors = np.concatenate([pair.dense(texts, width) for texts in groups])

    # Then
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE * expected.max())


def test_documents_are_scored_by_the_dot_product_of_the_references_vectors(pair: Pair) -> None:
    query, *documents = pair.expected(TEXTS)
    expected = np.stack(documents) @ query

    scores = pair.served.rerank(TEXTS[0], TEXTS[1:], raw_scores=True)

    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-4)


def test_a_bare_masked_language_model_is_served_as_the_reference_loads_it(tmp_path: Path) -> None:
    folder = masked_language_model(tmp_path, "bert")
    pair = Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))

    expected = pair.expected(TEXTS[:8])

    np.testing.assert_allclose(pair.dense(TEXTS[:8], expected.shape[1]), expected, atol=1e-4)


def test_only_the_largest_entries_are_kept_where_the_folder_says_so(tmp_path: Path) -> None:
    # Given
    folder = _folder(tmp_path, "bert", "max", "relu")
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_active_dims": 7}))
    pair = Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))

    # When
    expected = pair.expected(TEXTS)

    # Then
    assert (expected > 0).sum(axis=1).max() == 7
    np.testing.assert_allclose(pair.dense(TEXTS, expected.shape[1]), expected, atol=TOLERANCE * expected.max())


#: What a tokenizer without special tokens leaves of a text may be nothing.
QUERIES = [text for text in TEXTS if text.strip()]


def _inference_free(
    path: Path, architecture: str, *, layout: str = "saved", weights: str = "safetensors", **options: Any
) -> Path:
    """Documents through a masked language model, queries by static weights, some of them 0 or below."""
    bare = masked_language_model(path / "bare", architecture)
    tokenizer = AutoTokenizer.from_pretrained(bare)
    torch.manual_seed(11)
    idf = torch.randn(len(tokenizer)).mul(2).relu() - 0.2 * (torch.rand(len(tokenizer)) < 0.1)
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(tokenizer, weight=idf, frozen=True)],
        document_modules=[MLMTransformer(str(bare)), SpladePooling("max", activation_function="log1p_relu")],
        **options.pop("router", {}),
    )
    model = path / "model"
    SparseEncoder(modules=[router], device="cpu", **options).save_pretrained(str(model), create_model_card=False)
    if layout == "published":
        # OpenSearch's: the language model at the top, under a name of no letters, and the classes' former names
        for file in (model / "document_0_MLMTransformer").iterdir():
            shutil.move(file, model / file.name)
        (model / "document_0_MLMTransformer").rmdir()
        described = json.loads((model / "router_config.json").read_text())
        described["types"] = {
            "query_0_SparseStaticEmbedding": "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding",
            "": "sentence_transformers.sparse_encoder.models.MLMTransformer",
            "document_1_SpladePooling": "sentence_transformers.sparse_encoder.models.SpladePooling",
        }
        described["structure"]["document"][0] = ""
        (model / "router_config.json").write_text(json.dumps(described))
        modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}]
        (model / "modules.json").write_text(json.dumps(modules))
    if weights == "json":
        static = model / "query_0_SparseStaticEmbedding"
        (static / "model.safetensors").unlink()
        table = dict(zip(tokenizer.convert_ids_to_tokens(range(len(tokenizer))), idf.tolist(), strict=True))
        (model / "idf.json").write_text(json.dumps({word: weight for word, weight in table.items() if weight}))
        (static / "config.json").write_text(json.dumps({"frozen": True, "path": str(model / "idf.json")}))
    return model


@pytest.fixture(
    scope="module",
    params=[
        ("bert", "saved", "safetensors"),
        ("distilbert", "published", "safetensors"),
        ("roberta", "saved", "json"),
        ("xlm-roberta", "published", "json"),
    ],
    ids="-".join,
)
def inference_free(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    architecture, layout, weights = request.param
    folder = _inference_free(tmp_path_factory.mktemp("free"), architecture, layout=layout, weights=weights)
    return Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
@pytest.mark.parametrize("input_type", ["query", "document", None])
def test_queries_have_static_weights_and_documents_the_language_models(
    inference_free: Pair, input_type: str | None, together: bool
) -> None:
    texts = QUERIES if input_type == "query" else TEXTS
    expected = inference_free.expected(texts, input_type)

    groups = [texts] if together else [[text] for text in texts]
    vectors = np.concatenate([inference_free.dense(group, expected.shape[1], input_type) for group in groups])

    assert (expected < 0).any() == (input_type == "query")
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE * expected.max())


def test_a_query_and_documents_that_share_a_batch_are_scored_as_the_reference_scores_them(inference_free: Pair) -> None:
    for query in QUERIES:
        expected = inference_free.expected(TEXTS, "document") @ inference_free.expected([query], "query")[0]

        scores = inference_free.served.rerank(query, TEXTS, raw_scores=True)

        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-4)


def test_queries_of_several_requests_share_a_batch_with_documents(inference_free: Pair) -> None:
    # Given what a worker does when requests share a batch
    tokens = [
        inference_free.served.tokenizer.encode([text], input_type=kind)[0]
        for text in QUERIES
        for kind in ("document", "query", "query")
    ]

    # When
    rows = inference_free.served.forward(tokens, [Kind.SPARSE])[Kind.SPARSE].pieces()

    # Then
    queries, documents = (inference_free.expected(QUERIES, kind) for kind in ("query", "document"))
    for number, (query, document) in enumerate(zip(queries, documents, strict=True)):
        for piece, expected in zip(rows[3 * number : 3 * number + 3], (document, query, query), strict=True):
            assert piece.indices is not None
            full = np.zeros_like(expected)
            full[piece.indices] = piece.values[:, 0]
            np.testing.assert_allclose(full, expected, atol=TOLERANCE * documents.max())


def test_a_query_without_a_word_is_refused(inference_free: Pair) -> None:
    with pytest.raises(InvalidRequest, match="input 0 has no tokens"):
        inference_free.dense([""], 1, "query")


def test_an_inference_free_models_card_is_that_of_its_language_model(inference_free: Pair) -> None:
    card = inference_free.served.card

    assert (card.kinds, card.scoring, card.packed, card.max_tokens) == (["sparse"], "dot", True, MAX_TOKENS)


def test_queries_and_documents_have_prompts_and_largest_entries_of_their_own(tmp_path: Path) -> None:
    folder = _inference_free(tmp_path, "bert", prompts={"query": "find the ", "document": "text: "}, max_active_dims=4)
    pair = Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))

    for input_type in ("query", "document"):
        expected = pair.expected(QUERIES, input_type)
        assert (expected != 0).sum(axis=1).max() == 4
        vectors = pair.dense(QUERIES, expected.shape[1], input_type)
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE * expected.max())


def test_a_router_whose_default_is_the_query_takes_texts_for_queries(tmp_path: Path) -> None:
    folder = _inference_free(tmp_path, "bert", router={"default_route": "query"})
    pair = Pair(Served(folder), SparseEncoder(str(folder), device="cpu"))

    expected = pair.expected(QUERIES)

    np.testing.assert_allclose(pair.dense(QUERIES, expected.shape[1]), expected, atol=TOLERANCE)


def test_a_router_whose_ways_are_the_same_is_a_plain_encoder(tmp_path: Path) -> None:
    bare = masked_language_model(tmp_path / "bare", "bert")
    way = [MLMTransformer(str(bare)), SpladePooling("max")]
    router = Router.for_query_document(query_modules=way, document_modules=way)
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(tmp_path / "model"), create_model_card=False)
    pair = Pair(Served(tmp_path / "model"), SparseEncoder(str(tmp_path / "model"), device="cpu"))

    for input_type in ("query", "document"):
        expected = pair.expected(TEXTS, input_type)
        vectors = pair.dense(TEXTS, expected.shape[1], input_type)
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE * expected.max())


def test_a_type_that_is_not_served_is_refused_with_those_that_are(tmp_path: Path) -> None:
    masked_language_model(tmp_path, "bert")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    MegatronBertForMaskedLM(MegatronBertConfig(vocab_size=30522, **sizes)).save_pretrained(tmp_path)

    with pytest.raises(
        ConfigurationError, match="megatron-bert makes no sparse vectors here; these types do: bert, cam"
    ):
        Served(tmp_path)


def test_other_routers_are_refused(tmp_path: Path) -> None:
    bare = masked_language_model(tmp_path / "bare", "bert")
    ways = [[MLMTransformer(str(bare)), SpladePooling("max")] for _ in range(2)]
    router = Router.for_query_document(query_modules=ways[0], document_modules=ways[1])
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(tmp_path / "model"), create_model_card=False)

    with pytest.raises(ConfigurationError, match="its queries go a way that is not supported"):
        Served(tmp_path / "model")
