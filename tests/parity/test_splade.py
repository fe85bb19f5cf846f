"""Sparse encoders give sentence-transformers' vectors, entry by entry."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from shared.jobs import EmbedRequest
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

    def expected(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """The reference's vectors, dense, shape (texts, vocabulary)."""
        vectors: Any = self.reference.encode(
            texts, batch_size=1, convert_to_sparse_tensor=False, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def dense(self, texts: list[str], width: int) -> npt.NDArray[np.float32]:
        """Our vectors of texts that share a batch, filled up with zeros."""
        output = self.served.answer(EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=[Kind.SPARSE]))
        assert output.sparse is not None
        counts = np.frombuffer(output.sparse.counts, "<i4")
        columns = np.frombuffer(output.sparse.indices or b"", "<i4")
        full = np.zeros((len(texts), width), np.float32)
        full[np.repeat(np.arange(len(texts)), counts), columns] = np.frombuffer(output.sparse.values, "<f4")
        return full


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
