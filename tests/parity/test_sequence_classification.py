"""Rerankers give the reference implementation's scores, whatever shares the batch and however it is packed."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import CrossEncoder

from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import ARCHITECTURES, MAX_TOKENS, PACKED, cross_encoder

TOLERANCE = 1e-5
MODELS = [architecture.name for architecture in ARCHITECTURES.values() if architecture.classifier is not None]
QUERY = "what turns the wheel?"


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as the reference runs it."""

    architecture: str
    served: Served
    reference: CrossEncoder

    def expected(self, query: str, documents: list[str], *, raw: bool = False) -> npt.NDArray[np.float32]:
        """The reference's scores, each computed alone."""
        pairs = [(query, document) for document in documents]
        activation = torch.nn.Identity() if raw else torch.nn.Sigmoid()
        scores = self.reference.predict(pairs, batch_size=1, activation_fn=activation, show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32)


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = cross_encoder(tmp_path_factory.mktemp(request.param), request.param)
    return Pair(request.param, Served(folder), CrossEncoder(str(folder), device="cpu"))


def _close(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], *, raw: bool = False) -> None:
    # Logits have no bound, nor has their rounding: the reference's own were 2e-5 from float64's on a CPU without AVX-512.
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=TOLERANCE if raw else 0)


def test_the_card_tells_what_the_folder_says(pair: Pair) -> None:
    card = pair.served.card

    assert card.packed == (pair.architecture in PACKED)
    assert card.batching == "any"
    assert (card.dimensions, card.max_tokens, card.model_type) == (None, MAX_TOKENS, "reranker")
    assert card.operations == ["rerank", "classify"]


def test_a_tiny_reranker_tells_queries_documents_and_their_order_apart(pair: Pair) -> None:
    # Given: otherwise agreement would prove nothing
    one = pair.expected("the river turns the wheel", ["the wheel", "wheel the", "a letter"], raw=True)
    other = pair.expected("the wheel turns the river", ["the wheel"], raw=True)

    # Then
    scores = [*one, *other]
    assert min(abs(a - b) for i, a in enumerate(scores) for b in scores[:i]) > 10 * TOLERANCE


@pytest.mark.parametrize("raw", [False, True], ids=["0 to 1", "raw"])
def test_each_pair_alone_has_the_references_score(pair: Pair, raw: bool) -> None:
    expected = pair.expected(QUERY, TEXTS, raw=raw)

    for document, score in zip(TEXTS, expected, strict=True):
        _close(pair.served.rerank(QUERY, [document], raw_scores=raw)[0], score, raw=raw)


@pytest.mark.parametrize("raw", [False, True], ids=["0 to 1", "raw"])
def test_documents_of_all_lengths_in_one_batch_have_the_references_scores(pair: Pair, raw: bool) -> None:
    _close(pair.served.rerank(QUERY, TEXTS, raw_scores=raw), pair.expected(QUERY, TEXTS, raw=raw), raw=raw)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_and_the_company_of_a_document_do_not_change_its_score(pair: Pair, seed: int) -> None:
    # Given some of the texts, some of them twice, in any order
    chosen = random.Random(seed).choices(TEXTS, k=11)

    # Then
    _close(pair.served.rerank(QUERY, chosen), pair.expected(QUERY, chosen))


def test_pairs_of_different_queries_in_one_batch_have_the_references_scores(pair: Pair) -> None:
    # Given what a worker does when requests share a batch
    pairs = [(query, document) for query in (QUERY, "x", "Привет") for document in TEXTS[:6]]
    queries, documents = zip(*pairs, strict=True)
    tokens = pair.served.tokenizer.encode_pairs(queries, documents, cut_both=False)

    # When
    logits = pair.served.forward(tokens, [Kind.SCORES])[Kind.SCORES].values[:, 0]

    # Then
    expected = np.concatenate([pair.expected(query, [document], raw=True) for query, document in pairs])
    _close(logits, expected)


def test_the_reference_agrees_when_it_pads_too(pair: Pair) -> None:
    pairs = [(QUERY, document) for document in TEXTS]
    padded = pair.reference.predict(pairs, batch_size=32, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False)

    _close(pair.served.rerank(QUERY, TEXTS), padded)


def test_a_document_that_is_too_long_is_cut_where_the_reference_cuts_it(pair: Pair) -> None:
    # Given pairs around the model's maximum
    documents = ["mill " * count for count in range(MAX_TOKENS - 10, MAX_TOKENS + 3)]

    # Then
    _close(pair.served.rerank("mill", documents), pair.expected("mill", documents))


def test_query_and_document_are_not_interchangeable(pair: Pair) -> None:
    (there,) = pair.served.rerank("river", ["a letter in the house"], raw_scores=True)
    (back,) = pair.served.rerank("a letter in the house", ["river"], raw_scores=True)

    assert abs(there - back) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_reranker_that_does_not_say_its_maximum_takes_no_more_than_it_has_positions_for(
    tmp_path: Path, name: str
) -> None:
    # Given a tokenizer without a maximum
    folder = cross_encoder(tmp_path, name)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config))

    # When
    served = Served(folder)

    # Then
    assert served.card.max_tokens == MAX_TOKENS
    assert np.isfinite(served.rerank("q", ["mill " * 500, "x"])).all()


def test_a_bfloat16_rerankers_scores_are_close_to_float32_and_do_not_tie(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "xlm-roberta")
    exact, coarse = (Served(folder, dtype=dtype).rerank(QUERY, TEXTS) for dtype in ("float32", "bfloat16"))

    assert np.abs(exact - coarse).max() < 0.05
    assert len(set(coarse.tolist())) >= len(set(exact.tolist())) - 1
