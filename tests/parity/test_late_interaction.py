"""Late-interaction models give sentence-transformers' token vectors and MaxSim scores."""

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize

from shared import arrays
from shared.jobs import EmbedRequest
from shared.model_config import ConfigurationError
from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import DIMENSIONS, embedding_model

TOLERANCE = 1e-5
WIDTH = 24
QUERY = "what turns the wheel?"
#: Name → (architecture, query expansion, lengths of query and document, prompts)
MODELS: dict[str, tuple[str, dict[str, Any] | None, dict[str, int], dict[str, str]]] = {
    "expansion unseen": (
        "bert",
        {"strategy": "fixed", "attend": False, "length": 16},
        {"document_length": 30},
        {"query": "[unused0] ", "document": "[unused1] "},
    ),
    "expansion seen": ("bert", {"strategy": "fixed", "attend": True, "length": 16}, {}, {}),
    "at least": ("modernbert", {"strategy": "min", "attend": True, "length": 8}, {"query_length": 20}, {}),
    "at least, however long": ("roberta", {"strategy": "min", "attend": False, "length": 14}, {}, {}),
    "unseen beside a bias": ("mpnet", {"strategy": "fixed", "attend": False, "length": 16}, {}, {}),
    "no expansion": ("xlm-roberta", None, {"query_length": 12, "document_length": 40}, {"query": "q: "}),
}


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as the reference runs it."""

    served: Served
    reference: MultiVectorEncoder

    def vectors(self, texts: list[str], **options: Any) -> list[npt.NDArray[np.float32]]:
        """Ours, of texts that share a batch."""
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=[Kind.MULTIVECTOR], **options)
        return arrays.token_rows(self.served.answer(request))


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    architecture, expansion, lengths, prompts = MODELS[request.param]
    folder = tmp_path_factory.mktemp("late")
    embedding_model(folder, architecture)
    torch.manual_seed(5)
    dense = Dense(DIMENSIONS, WIDTH, bias=False, activation_function=None, module_input_name="token_embeddings")
    modules = [
        Transformer(str(folder / "bare"), query_expansion=expansion, **lengths),
        dense,
        MultiVectorMask(skiplist_words=list(string.punctuation)),
        Normalize(module_input_name="token_embeddings"),
    ]
    made = MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu")
    made.save_pretrained(str(folder / "saved"), create_model_card=False)
    reference = MultiVectorEncoder(str(folder / "saved"), device="cpu")
    return Pair(Served(folder / "saved"), reference)


def _close(ours: list[npt.NDArray[np.float32]], theirs: Any) -> None:
    assert [len(vectors) for vectors in ours] == [len(vectors) for vectors in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, np.asarray(other), atol=TOLERANCE)


def test_the_card_tells_what_it_makes(pair: Pair) -> None:
    card = pair.served.card

    assert (card.kinds, card.scoring, card.dimensions, card.packed) == (["multivector"], "maxsim", WIDTH, True)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_documents_have_the_references_vectors(pair: Pair, together: bool) -> None:
    expected = pair.reference.encode_document(TEXTS, batch_size=1, show_progress_bar=False)

    groups = [TEXTS] if together else [[text] for text in TEXTS]
    _close([row for group in groups for row in pair.vectors(group, input_type="document")], expected)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_queries_have_the_references_vectors(pair: Pair, together: bool) -> None:
    expected = pair.reference.encode_query(TEXTS, batch_size=1, show_progress_bar=False)

    groups = [TEXTS] if together else [[text] for text in TEXTS]
    _close([row for group in groups for row in pair.vectors(group, input_type="query")], expected)


def test_texts_of_no_kind_are_documents(pair: Pair) -> None:
    _close(pair.vectors(TEXTS[:4]), pair.vectors(TEXTS[:4], input_type="document"))


def test_queries_and_documents_have_their_prompts_under_other_names(tmp_path: Path) -> None:
    embedding_model(tmp_path, "bert")
    modules = [
        Transformer(str(tmp_path / "bare")),
        MultiVectorMask(skiplist_words=list(string.punctuation)),
        Normalize(module_input_name="token_embeddings"),
    ]
    folder = tmp_path / "saved"
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    path = folder / "config_sentence_transformers.json"
    prompts = {"search_query": "find: ", "search_document": "text: "}
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": prompts}))
    pair = Pair(Served(folder), MultiVectorEncoder(str(folder), device="cpu"))

    queries = pair.reference.encode_query(TEXTS[:4], prompt="find: ", batch_size=1, show_progress_bar=False)
    documents = pair.reference.encode_document(TEXTS[:4], prompt="text: ", batch_size=1, show_progress_bar=False)

    _close(pair.vectors(TEXTS[:4], input_type="query"), queries)
    _close(pair.vectors(TEXTS[:4], input_type="document"), documents)
    _close(pair.vectors(TEXTS[:4]), documents)


def test_documents_are_scored_by_the_references_maxsim(pair: Pair) -> None:
    documents = [text for text in TEXTS if text.strip()]
    query = pair.reference.encode_query([QUERY], show_progress_bar=False)
    against = pair.reference.encode_document(documents, batch_size=1, show_progress_bar=False)
    expected = np.asarray(pair.reference.similarity(query, against))[0]

    scores = pair.served.rerank(QUERY, documents, raw_scores=True)

    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert (np.argsort(-pair.served.rerank(QUERY, documents)) == np.argsort(-scores)).all()


def test_a_document_without_any_vector_is_ranked_last(pair: Pair) -> None:
    # Given a text of nothing but skipped tokens, which may leave only markers
    scores = pair.served.rerank(QUERY, ["...", "the wheel"])

    assert np.isfinite(scores).all()


def _saved(folder: Path, architecture: str, *tail: Any, **options: Any) -> Path:
    """A multi-vector encoder of these modules after its transformer."""
    embedding_model(folder, architecture)
    modules = [Transformer(str(folder / "bare"), **options), *tail]
    made = MultiVectorEncoder(modules=modules, device="cpu")
    made.save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


def test_a_skipped_word_may_be_the_one_for_unknown_words(tmp_path: Path) -> None:
    # Given a word that is not in the vocabulary, and the token that stands for all such
    mask = MultiVectorMask(skiplist_words=["wheel", "[UNK]", "nosuchword"], skiplist_tasks=["query", "document"])
    folder = _saved(tmp_path, "bert", mask, Normalize(module_input_name="token_embeddings"))
    pair = Pair(Served(folder), MultiVectorEncoder(str(folder), device="cpu"))
    texts = ["the wheel", "\u4e02 unknown \u4e02", *TEXTS]

    for input_type in ("query", "document"):
        encode = pair.reference.encode_query if input_type == "query" else pair.reference.encode_document
        _close(pair.vectors(texts, input_type=input_type), encode(texts, batch_size=1, show_progress_bar=False))


def test_vectors_that_are_pooled_over_tokens_are_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path, "bert", MultiVectorMask(), HierarchicalTokenPooling(pool_factor=2))

    with pytest.raises(ConfigurationError, match="this kind of late-interaction model is not supported"):
        Served(folder)


def test_unseen_expansion_by_the_token_that_ends_each_text_is_refused(tmp_path: Path) -> None:
    expansion = {"strategy": "fixed", "attend": False, "length": 16}
    folder = _saved(tmp_path, "qwen3", MultiVectorMask(), query_expansion=expansion)

    with pytest.raises(ConfigurationError, match="needs another token than the last of each text"):
        Served(folder)
