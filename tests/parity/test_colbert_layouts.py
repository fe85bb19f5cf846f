"""Folders as PyLate and Stanford's ColBERT write them give the vectors that sentence-transformers makes of them."""

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from tokenizers import AddedToken
from transformers import AutoModel, AutoTokenizer

from shared import arrays
from shared.jobs import EmbedRequest
from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import DIMENSIONS, embedding_model

TOLERANCE = 1e-5
WIDTH = 24
#: A setting that is not there, where others say null.
MISSING = object()
QUERY = "what turns the wheel?"
#: Longer than some limits, in tokens, and with whatever the layouts treat in a way of their own.
DOCUMENTS = [
    *TEXTS,
    "wheel, river; mill! (stone) - [paper]",
    "[MASK] and [unused0] and [Q] and [D] [UNK]",
    *(f"{'mill ' * count}wheel." for count in range(14, 20)),
    *(f"{'mill ' * count}wheel." for count in (27, 28, 29, 44, 45, 46)),
]


def _projection() -> torch.Tensor:
    return torch.randn(WIDTH, DIMENSIONS, generator=torch.Generator().manual_seed(5))


def _write(path: Path, described: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(described))


def pylate(
    folder: Path, architecture: str, *, markers: bool = True, dense: str = "pylate.models.Dense.Dense", **config: Any
) -> Path:
    """What PyLate saves: a transformer, a projection without bias, and everything else in one file.

    Args:
        folder: Where; created.
        architecture: The transformer's.
        markers: Whether the prefixes are tokens of the tokenizer, as PyLate adds them, with their space.
        dense: Class of the projection.
        config: More of `config_sentence_transformers.json`.
    """
    embedding_model(folder, architecture)
    path = folder / "bare"
    if markers:
        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.add_tokens([AddedToken("[Q] "), AddedToken("[D] ")])
        model = AutoModel.from_pretrained(path)
        torch.manual_seed(9)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.get_input_embeddings().weight.data[-2:] = torch.randn(2, DIMENSIONS)
        tokenizer.save_pretrained(path)
        model.save_pretrained(path)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": dense},
    ]
    _write(path / "modules.json", modules)
    _write(path / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})
    described = {
        "in_features": DIMENSIONS,
        "out_features": WIDTH,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write(path / "1_Dense" / "config.json", described)
    save_file({"linear.weight": _projection()}, path / "1_Dense" / "model.safetensors")
    defaults = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 16, "document_length": 30}
    settings = {"prompts": {}, "similarity_fn_name": "cosine", **defaults, **config}
    said = {name: value for name, value in settings.items() if value is not MISSING}
    _write(path / "config_sentence_transformers.json", said)
    return path


def stanford(folder: Path, architecture: str, metadata: dict[str, Any] | None) -> Path:
    """What Stanford's ColBERT saves: `linear.weight` beside the trunk's weights, and `artifact.metadata`."""
    embedding_model(folder, architecture)
    path = folder / "bare"
    weights = {f"bert.{name}": value for name, value in load_file(path / "model.safetensors").items()}
    save_file({**weights, "linear.weight": _projection()}, path / "model.safetensors", {"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    _write(path / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    if metadata is not None:
        (path / "artifact.metadata").write_text(json.dumps(metadata))
    return path


STANFORD = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_token": "[Q]",
    "doc_token": "[D]",
    "query_maxlen": 14,
    "doc_maxlen": 28,
    "dim": WIDTH,
    "similarity": "cosine",
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
}
PUNCTUATION = list(string.punctuation)
FOLDERS: dict[str, Any] = {
    "PyLate 1": lambda path: pylate(path, "bert", attend_to_expansion_tokens=False, skiplist_words=PUNCTUATION),
    "PyLate 1, ModernBERT, attended": lambda path: pylate(path, "modernbert", attend_to_expansion_tokens=True),
    "PyLate 1, no expansion": lambda path: pylate(path, "bert", do_query_expansion=False, skiplist_words=[]),
    "PyLate 1, words for prefixes": lambda path: pylate(
        path,
        "xlm-roberta",
        markers=False,
        query_prefix="query: ",
        document_prefix="text: ",
        skiplist_words=["▁the", "."],
    ),
    "PyLate 3": lambda path: pylate(path, "bert", model_type="ColBERT", skiplist_words=["the", *PUNCTUATION]),
    "PyLate 3, the library's Dense": lambda path: pylate(
        path, "roberta", model_type="ColBERT", dense="sentence_transformers.models.Dense", query_length=None
    ),
    "PyLate 1, the library's Dense": lambda path: pylate(
        path, "bert", dense="sentence_transformers.models.Dense", skiplist_words=PUNCTUATION
    ),
    "PyLate 3, neither prefixes nor its own Dense": lambda path: pylate(
        path,
        "bert",
        markers=False,
        model_type="ColBERT",
        dense="sentence_transformers.models.Dense",
        query_prefix=MISSING,
        document_prefix=MISSING,
        attend_to_expansion_tokens=True,
    ),
    "PyLate 3, prompts": lambda path: pylate(
        path, "bert", model_type="ColBERT", prompts={"query": "find the ", "document": ""}, document_length=None
    ),
    "Stanford": lambda path: stanford(path, "bert", STANFORD),
    "Stanford, attended, punctuation": lambda path: stanford(
        path, "bert", {**STANFORD, "attend_to_mask_tokens": True, "mask_punctuation": False}
    ),
    "Stanford, no metadata": lambda path: stanford(path, "bert", None),
}


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as the reference runs it."""

    name: str
    served: Served
    reference: MultiVectorEncoder

    def vectors(self, texts: list[str], **options: Any) -> list[npt.NDArray[np.float32]]:
        """Ours, of texts that share a batch."""
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=[Kind.MULTIVECTOR], **options)
        return arrays.token_rows(self.served.answer(request))


@pytest.fixture(scope="module", params=FOLDERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = FOLDERS[request.param](tmp_path_factory.mktemp("colbert"))
    return Pair(request.param, Served(folder), MultiVectorEncoder(str(folder), device="cpu"))


def _close(ours: list[npt.NDArray[np.float32]], theirs: Any) -> None:
    assert [len(vectors) for vectors in ours] == [len(vectors) for vectors in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, np.asarray(other), atol=TOLERANCE)


def test_the_card_tells_what_it_makes(pair: Pair) -> None:
    card = pair.served.card

    assert (card.kinds, card.scoring, card.dimensions, card.packed) == (["multivector"], "maxsim", WIDTH, True)


def test_queries_and_documents_are_told_apart(pair: Pair) -> None:
    # Given: otherwise agreement would prove nothing
    query, document = (encode(["river"])[0] for encode in (pair.reference.encode_query, pair.reference.encode_document))

    assert len(query) != len(document) or np.abs(np.asarray(query) - np.asarray(document)).max() > 0.1


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
@pytest.mark.parametrize("input_type", ["query", "document"])
def test_texts_have_the_references_vectors(pair: Pair, input_type: str, together: bool) -> None:
    encode = pair.reference.encode_query if input_type == "query" else pair.reference.encode_document
    expected = encode(DOCUMENTS, batch_size=1, show_progress_bar=False)

    groups = [DOCUMENTS] if together else [[text] for text in DOCUMENTS]
    _close([row for group in groups for row in pair.vectors(group, input_type=input_type)], expected)


@pytest.mark.parametrize("input_type", ["query", "document"])
def test_the_reference_agrees_when_it_pads_too(pair: Pair, input_type: str) -> None:
    encode = pair.reference.encode_query if input_type == "query" else pair.reference.encode_document

    _close(pair.vectors(DOCUMENTS, input_type=input_type), encode(DOCUMENTS, batch_size=64, show_progress_bar=False))


def test_documents_are_scored_by_the_references_maxsim(pair: Pair) -> None:
    query = pair.reference.encode_query([QUERY], show_progress_bar=False)
    against = pair.reference.encode_document(DOCUMENTS, batch_size=1, show_progress_bar=False)
    scored = [index for index, vectors in enumerate(against) if len(vectors)]
    expected = np.asarray(pair.reference.similarity(query, [against[index] for index in scored]))[0]

    scores = pair.served.rerank(QUERY, DOCUMENTS, raw_scores=True)

    np.testing.assert_allclose(scores[scored], expected, atol=1e-4)


def test_a_folder_that_was_not_saved_for_late_interaction_is_not_taken_for_one(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "bert")

    assert Served(folder).card.kinds == ["dense"]
