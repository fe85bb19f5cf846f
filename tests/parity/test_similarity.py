"""Documents are ranked by what the folder says that its vectors are compared by, as sentence-transformers does."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from shared.errors import WrongTask
from tests.helpers.texts import SENTENCES, TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_image_models import image_text_model
from tests.helpers.tiny_models import DIMENSIONS, embedding_model, masked_language_model

QUERY = "which mill stands at the river?"


def _dense(folder: Path, similarity: str, *others: torch.nn.Module, **options: Any) -> SentenceTransformer:
    bare = embedding_model(folder, "bert").parent / "bare"
    modules = [Transformer(str(bare)), Pooling(DIMENSIONS, "cls"), *others]
    return _saved(SentenceTransformer(modules=modules, similarity_fn_name=similarity, device="cpu", **options), folder)


def _saved(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    model.save_pretrained(str(folder / "saved"), create_model_card=False)
    return SentenceTransformer(str(folder / "saved"), device="cpu")


def _compare(served: Served, reference: Any, scoring: Literal["cosine", "dot"]) -> None:
    expected = reference.similarity(reference.encode_query([QUERY]), reference.encode_document(TEXTS))[0].numpy()

    scores = served.rerank(QUERY, TEXTS, raw_scores=True)

    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=1e-5)
    assert served.card.scoring == scoring


def test_dot_products_where_the_folder_names_them(tmp_path: Path) -> None:
    reference = _dense(tmp_path, "dot")
    served = Served(tmp_path / "saved")

    _compare(served, reference, "dot")

    # Otherwise agreement would prove nothing
    vectors, scores = served.embed([QUERY, *TEXTS]), served.rerank(QUERY, TEXTS)
    assert np.argsort(vectors[1:] @ vectors[0]).tolist() != np.argsort(scores).tolist()


def test_dot_products_of_unit_vectors_are_cosines(tmp_path: Path) -> None:
    reference = _dense(tmp_path, "dot", Normalize())

    _compare(Served(tmp_path / "saved"), reference, "cosine")


def test_dot_products_of_what_is_left_of_unit_vectors(tmp_path: Path) -> None:
    reference = _dense(tmp_path, "dot", Normalize(), truncate_dim=8)

    _compare(Served(tmp_path / "saved"), reference, "dot")


def test_dot_products_of_clip(tmp_path: Path) -> None:
    transformer = Transformer(str(image_text_model(tmp_path / "bare", "clip")))
    reference = _saved(SentenceTransformer(modules=[transformer], similarity_fn_name="dot", device="cpu"), tmp_path)

    _compare(Served(tmp_path / "saved"), reference, "dot")


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_sparse_vectors(tmp_path: Path, similarity: Literal["dot", "cosine"]) -> None:
    bare = masked_language_model(tmp_path / "bare", "bert")
    SparseEncoder(str(bare), similarity_fn_name=similarity, device="cpu").save_pretrained(str(tmp_path / "saved"))

    reference = SparseEncoder(str(tmp_path / "saved"), device="cpu")

    _compare(Served(tmp_path / "saved"), reference, similarity)


def test_nearness_of_unit_vectors_is_that_of_their_angle(tmp_path: Path) -> None:
    reference = _dense(tmp_path, "euclidean", Normalize())
    nearness = reference.similarity(reference.encode([QUERY]), reference.encode(TEXTS))[0].numpy()

    scores = Served(tmp_path / "saved").rerank(QUERY, TEXTS, raw_scores=True)

    np.testing.assert_allclose(-np.sqrt(np.maximum(2 - 2 * scores, 0)), nearness, atol=1e-3)


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_a_model_of_distances_embeds_and_does_not_rerank(tmp_path: Path, similarity: str) -> None:
    reference = _dense(tmp_path, similarity)
    served = Served(tmp_path / "saved")

    vectors = served.embed(SENTENCES, normalize=False)

    np.testing.assert_allclose(vectors, reference.encode(SENTENCES), atol=1e-5)
    with pytest.raises(WrongTask, match="model model does not rerank; it does: embed"):
        served.rerank(QUERY, SENTENCES)
