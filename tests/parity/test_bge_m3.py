"""bge-m3's three kinds of vectors are those of FlagEmbedding's formulas, from one pass and in any company."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer

from shared.errors import WrongTask
from shared.jobs import EmbedRequest
from shared.results import Kind, Output, Ragged
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import DIMENSIONS, MAX_TOKENS, embedding_model

TOLERANCE = 1e-5
MULTI = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny XLM-RoBERTa with both heads beside it."""
    path = tmp_path_factory.mktemp("m3")
    embedding_model(path, "xlm-roberta", pooling="cls")
    bare = path / "bare"
    generator = torch.Generator().manual_seed(3)
    for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", MULTI)):
        weight = torch.randn((rows, DIMENSIONS), generator=generator)
        torch.save({"weight": weight, "bias": torch.randn(rows, generator=generator)}, bare / name)
    return bare


@pytest.fixture(scope="module")
def served(folder: Path) -> Served:
    return Served(folder)


class Reference:
    """FlagEmbedding's procedure on one text at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()
        self._sparse, self._colbert = (
            torch.load(folder / name, weights_only=True) for name in ("sparse_linear.pt", "colbert_linear.pt")
        )

    @torch.inference_mode()
    def __call__(self, text: str) -> tuple[npt.NDArray[Any], dict[int, float], npt.NDArray[Any]]:
        inputs = self.tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        hidden = self._model(**inputs).last_hidden_state[0]
        dense = torch.nn.functional.normalize(hidden[0], dim=-1)
        weights = torch.relu(hidden @ self._sparse["weight"].T + self._sparse["bias"])[:, 0]
        names = ("cls_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
        unused = {getattr(self.tokenizer, name) for name in names}
        lexical: dict[int, float] = {}
        for token, weight in zip(inputs["input_ids"][0].tolist(), weights.tolist(), strict=True):
            if token not in unused and weight > 0:
                lexical[token] = max(weight, lexical.get(token, 0.0))
        colbert = torch.nn.functional.normalize(hidden[1:] @ self._colbert["weight"].T + self._colbert["bias"], dim=-1)
        return dense.numpy(), lexical, colbert.numpy()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


def _ask(served: Served, texts: list[str], *kinds: Kind) -> Output:
    return served.answer(EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=kinds))


def _parts(ragged: Ragged | None) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Values and indices of each item."""
    assert ragged is not None
    ends = np.cumsum(np.frombuffer(ragged.counts, "<i4"))[:-1]
    values = np.split(np.frombuffer(ragged.values, "<f4").reshape(-1, ragged.width), ends)
    indices = np.split(np.frombuffer(ragged.indices or b"", "<i4"), ends) if ragged.indices is not None else []
    return values, indices


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_all_three_kinds_are_the_references(served: Served, reference: Reference, together: bool) -> None:
    groups = [TEXTS] if together else [[text] for text in TEXTS]
    for texts in groups:
        # When
        output = _ask(served, texts, Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR)

        # Then
        dense = np.frombuffer(output.data, "<f4").reshape(output.shape)
        values, indices = _parts(output.sparse)
        vectors, _ = _parts(output.multivector)
        for number, text in enumerate(texts):
            expected_dense, expected_lexical, expected_colbert = reference(text)
            np.testing.assert_allclose(dense[number], expected_dense, atol=TOLERANCE)
            assert indices[number].tolist() == sorted(expected_lexical)
            expected = [expected_lexical[index] for index in indices[number].tolist()]
            np.testing.assert_allclose(values[number][:, 0], expected, atol=TOLERANCE)
            np.testing.assert_allclose(vectors[number], expected_colbert, atol=TOLERANCE)


def test_the_tiny_model_has_weights_to_compare_and_texts_without_any(reference: Reference) -> None:
    # Given: otherwise agreement would prove nothing
    sizes = [len(reference(text)[1]) for text in TEXTS]

    assert max(sizes) > 5
    assert min(sizes) == 0


def test_only_what_is_asked_for_comes_back(served: Served) -> None:
    output = _ask(served, ["mill race"], Kind.SPARSE)

    assert output.sparse is not None
    assert output.multivector is None
    assert output.shape == (1, 0)


def test_the_card_lists_the_kinds_that_the_folder_has_heads_for(served: Served, folder: Path, tmp_path: Path) -> None:
    # Given a folder with one head
    other = tmp_path / "one-head"
    other.mkdir()
    for path in folder.iterdir():
        if path.name != "colbert_linear.pt":
            (other / path.name).symlink_to(path)

    # Then
    assert served.card.kinds == ["dense", "sparse", "multivector"]
    assert Served(other).card.kinds == ["dense", "sparse"]


@pytest.fixture(scope="module")
def stated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as sentence-transformers saves one that has settings of its own."""
    saved = tmp_path_factory.mktemp("stated")
    SentenceTransformer(
        modules=[Transformer(str(folder), max_seq_length=16), Pooling(DIMENSIONS, "mean"), Normalize()],
        prompts={"query": "the river ", "document": "mill: "},
        truncate_dim=8,
        device="cpu",
    ).save_pretrained(str(saved), create_model_card=False)
    for name in ("sparse_linear.pt", "colbert_linear.pt"):
        (saved / name).write_bytes((folder / name).read_bytes())
    return saved


def test_prompts_pooling_length_and_dimensions_of_the_folder_are_kept(stated: Path) -> None:
    reference, served = SentenceTransformer(str(stated), device="cpu"), Served(stated)
    options = {"normalize_embeddings": True, "batch_size": 1}

    for vectors, expected in (
        (served.embed(TEXTS), reference.encode(TEXTS, **options)),
        (served.embed(TEXTS, input_type="query"), reference.encode_query(TEXTS, **options)),
        (served.embed(TEXTS, input_type="document"), reference.encode_document(TEXTS, **options)),
    ):
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
    card = served.card
    assert (card.dimensions, card.max_tokens, card.pooling, card.prompts) == (8, 16, "mean", ["query", "document"])


def test_the_heads_see_what_the_dense_vector_is_made_of(stated: Path, served: Served) -> None:
    text = "the wheel"
    prompted = _ask(served, [f"the river {text}"], Kind.SPARSE, Kind.MULTIVECTOR)

    request = EmbedRequest(
        request_id="r", deadline=0, texts=[text], kinds=[Kind.SPARSE, Kind.MULTIVECTOR], input_type="query"
    )
    output = Served(stated).answer(request)

    for one, other in ((output.sparse, prompted.sparse), (output.multivector, prompted.multivector)):
        np.testing.assert_allclose(_parts(one)[0][0], _parts(other)[0][0], atol=TOLERANCE)


def test_a_kind_that_a_model_does_not_make_is_refused(tmp_path: Path) -> None:
    served = Served(embedding_model(tmp_path, "bert"))

    with pytest.raises(WrongTask, match="makes no sparse vectors; it makes: dense"):
        _ask(served, ["a"], Kind.SPARSE)
