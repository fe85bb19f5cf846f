"""Late chunking (Günther et al. 2024) gives the mean of a whole document's token states over each chunk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from shared.errors import InputTooLong, InvalidRequest, WrongTask
from shared.jobs import EmbedRequest
from shared.model_config import DEFAULT_MODEL
from shared.results import Kind
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import embedding_model
from workers.rows import stacked
from workers.scoring import normalized
from workers.weights import local_folder

TOLERANCE = 1e-5
DOCUMENT = ["The mill.", "It grinds;", "Straße 🎉", "мир", "x"]


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as transformers runs it."""

    served: Served
    model: Any
    tokenizer: Any

    def expected(self, chunks: list[str]) -> npt.NDArray[np.float32]:
        """Unit vectors of the chunks, from the token states of the whole document."""
        document = " ".join(chunks)
        encoded = self.tokenizer(document, return_offsets_mapping=True, return_tensors="pt")
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            states = self.model(**encoded).last_hidden_state[0].float().numpy()
        rows, start = [], 0
        for number, chunk in enumerate(chunks):
            end = start + len(chunk)
            # A token that begins with the space between two chunks is the second one's.
            mine = [
                at
                for at, (first, last) in enumerate(offsets)
                if (
                    last == 0 and number == (0 if at == 0 else len(chunks) - 1)
                )  # special tokens are nowhere in the text
                or (last > 0 and first < end and start < last <= end)
            ]
            rows.append(states[mine].mean(axis=0))
            start = end + 1
        return normalized(np.stack(rows))


@pytest.fixture(scope="module", params=["MiniLM", "xlm-roberta", "modernbert", "nomic-bert"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Real weights, and one small model of each way to write a space."""
    if request.param == "MiniLM":
        folder = local_folder(DEFAULT_MODEL)
    else:
        folder = embedding_model(tmp_path_factory.mktemp(request.param), request.param, pooling="mean")
    model = AutoModel.from_pretrained(folder).eval()
    return Pair(Served(folder), model, AutoTokenizer.from_pretrained(folder))


def _request(chunks: list[str], **options: Any) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=0, texts=chunks, late_chunking=True, **options)


def test_each_chunk_is_the_mean_of_its_tokens_in_the_document(pair: Pair) -> None:
    ours = pair.served.embed(DOCUMENT, late_chunking=True)

    np.testing.assert_allclose(ours, pair.expected(DOCUMENT), atol=TOLERANCE)
    apart = pair.served.embed(DOCUMENT)
    assert np.abs(ours - apart).max() > 1e-3, "the surroundings change nothing, so this test shows nothing"


def test_one_chunk_is_an_ordinary_text(pair: Pair) -> None:
    np.testing.assert_allclose(
        pair.served.embed(DOCUMENT[:1], late_chunking=True), pair.served.embed(DOCUMENT[:1]), atol=1e-6
    )


def test_documents_and_ordinary_texts_share_a_batch(pair: Pair) -> None:
    tokenizer = pair.served.tokenizer
    plain = tokenizer.encode(["a text of its own", "and one more"])
    documents = [tokenizer.encode_document(_request(DOCUMENT)), tokenizer.encode_document(_request(DOCUMENT[:2]))]

    rows = pair.served.forward([plain[0], documents[0], plain[1], documents[1]], [Kind.DENSE])[Kind.DENSE]

    pieces = rows.pieces()
    assert [len(stacked([piece])) for piece in pieces] == [1, 5, 1, 2]
    expected = [
        pair.served.embed(["a text of its own"]),
        pair.served.embed(DOCUMENT, late_chunking=True),
        pair.served.embed(["and one more"]),
        pair.served.embed(DOCUMENT[:2], late_chunking=True),
    ]
    for piece, alone in zip(pieces, expected, strict=True):
        np.testing.assert_allclose(normalized(stacked([piece])), alone, atol=1e-6)


def test_a_document_is_never_cut(pair: Pair) -> None:
    longest = pair.served.card.max_tokens
    with pytest.raises(InputTooLong, match=f"longer than the {longest} tokens"):
        pair.served.embed(["mill race"] * longest, late_chunking=True)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_chunk_without_tokens_is_named(pair: Pair, place: int) -> None:
    chunks = ["mill", "race"]
    chunks.insert(place, " ")
    with pytest.raises(InvalidRequest, match=f"input {place} has no tokens"):
        pair.served.embed(chunks, late_chunking=True)


def test_models_that_look_at_one_token_refuse(tmp_path: Path) -> None:
    served = Served(embedding_model(tmp_path, "bert", pooling="cls"))

    with pytest.raises(WrongTask, match="no late chunking"):
        served.embed(DOCUMENT, late_chunking=True)
