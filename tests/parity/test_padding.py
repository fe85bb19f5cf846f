"""Models whose own code lets padding change the numbers, or takes none: each text has those that the reference has alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import cross_encoder, embedding_model

TOLERANCE = 1e-5
QUERY = "what turns the wheel?"


@pytest.mark.parametrize(
    ("name", "batching"),
    [
        ("convbert", "equal_lengths"),
        ("deberta-v2", "any"),
        ("fnet", "equal_lengths"),
        ("mamba", "any"),
        ("mobilebert", "equal_lengths"),
        ("qwen3-next", "any"),
        ("xlnet", "any"),
        ("yoso", "equal_lengths"),
    ],
)
def test_neighbours_of_other_lengths_do_not_change_a_vector(tmp_path: Path, name: str, batching: str) -> None:
    # Given
    folder = embedding_model(tmp_path, name)
    reference = SentenceTransformer(str(folder), device="cpu")
    texts = [*TEXTS, *TEXTS[:5]]  # some have company of their own length
    expected = np.concatenate([reference.encode([text], show_progress_bar=False) for text in texts])

    # When
    served = Served(folder)

    # Then
    assert (served.card.packed, served.card.batching) == (False, batching)
    np.testing.assert_allclose(served.embed(texts), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("name", "batching"),
    [
        ("convbert", "equal_lengths"),
        ("deberta-v2", "any"),
        ("fnet", "equal_lengths"),
        ("mobilebert", "equal_lengths"),
        ("xlnet", "any"),  # its head reads the last column: padding goes in front
        ("yoso", "equal_lengths"),
    ],
)
def test_neighbours_of_other_lengths_do_not_change_a_score(tmp_path: Path, name: str, batching: str) -> None:
    _compare_scores(cross_encoder(tmp_path, name), batching)


def test_big_bird_has_full_attention_whatever_came_before(tmp_path: Path) -> None:
    """As transformers leaves it after the first short text; until then long ones have a sparse one, and other vectors."""
    # Given
    folder = embedding_model(tmp_path, "big-bird")
    sparse, full = (SentenceTransformer(str(folder), device="cpu") for _ in range(2))
    full[0].model.set_attention_type("original_full")
    long = "the river turns the wheel and the wheel turns the stone, " * 4
    expected = full.encode([long], show_progress_bar=False)
    assert np.abs(sparse.encode([long], show_progress_bar=False) - expected).max() > 100 * TOLERANCE

    # When
    served = Served(folder)

    # Then
    for texts in ([long], ["short", long], [long, long]):
        np.testing.assert_allclose(served.embed(texts)[-1:], expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_leak_is_told_from_the_rounding_of_half_precision(tmp_path: Path, dtype: str) -> None:
    models = {name: Served(cross_encoder(tmp_path / name, name), dtype=dtype) for name in ("convbert", "deberta-v2")}

    assert {name: served.card.batching for name, served in models.items()} == {
        "convbert": "equal_lengths",
        "deberta-v2": "any",
    }


def _compare_scores(folder: Path, batching: str) -> None:
    # Given
    documents = [*TEXTS, *TEXTS[:5]]
    expected = torch.cat([_logits(folder, QUERY, document) for document in documents])[:, 0].sigmoid()

    # When
    served = Served(folder)

    # Then
    assert served.card.batching == batching
    np.testing.assert_allclose(served.rerank(QUERY, documents), expected.numpy(), atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def _logits(folder: Path, text: str, second: str | None) -> torch.Tensor:
    """Those of transformers for a text or a pair alone, shape (1, labels)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(text, second, truncation="longest_first", return_tensors="pt")
    logits: torch.Tensor = model(**inputs).logits
    return logits


@pytest.mark.parametrize(
    ("name", "batching"),
    [
        ("bart", "any"),
        ("gpt2", "none"),  # names no padding token, and takes one sequence at a time
        ("t5-classifier", "any"),
    ],
)
def test_classifiers_that_look_for_the_end_of_a_text_are_served(tmp_path: Path, name: str, batching: str) -> None:
    _compare_scores(cross_encoder(tmp_path, name), batching)


@pytest.mark.parametrize("name", ["bart", "t5-classifier"])
def test_texts_with_other_numbers_of_ends_share_a_request(tmp_path: Path, name: str) -> None:
    # Given a classifier that wants equally many ends in all texts of a batch, as bart-large-mnli does
    folder = cross_encoder(tmp_path, name, labels=["contradiction", "neutral", "entailment"])
    texts = ["the river turns the wheel", "a river </s> and a wheel", "x", "the mill race runs high"]
    seconds = ["a wheel is turned", None, None, "water"]
    expected = torch.cat([_logits(folder, *one) for one in zip(texts, seconds, strict=True)]).softmax(dim=1)

    # When
    served = Served(folder)

    # Then
    assert served.card.labels == ["contradiction", "neutral", "entailment"]
    np.testing.assert_allclose(served.classify(texts, seconds), expected.numpy(), atol=TOLERANCE, rtol=0)
