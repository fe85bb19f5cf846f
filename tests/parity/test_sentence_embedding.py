"""Embedding models give the reference implementation's vectors, whatever shares the batch and however it is packed."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sentence_transformers import SentenceTransformer

from shared.errors import InvalidRequest
from shared.model_config import DEFAULT_MODEL, ConfigurationError
from shared.results import Kind
from tests.helpers.texts import SENTENCES, TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import DIMENSIONS, MAX_TOKENS, PACKED, embedding_model
from workers.packed import packs
from workers.weights import local_folder

TOLERANCE = 1e-5

#: (architecture, pooling, whether the folder ends in a Normalize module)
MODELS: list[tuple[str, Literal["mean", "cls", "lasttoken"], bool]] = [
    ("bert", "mean", True),
    ("bert", "cls", False),
    ("roberta", "mean", True),
    ("xlm-roberta", "mean", False),
    ("xlm-roberta", "cls", True),
    ("distilbert", "mean", True),
    ("electra", "mean", True),
    ("albert", "mean", True),
    ("ernie", "cls", True),
    ("camembert", "mean", True),
    ("xlm-roberta-xl", "mean", True),
    ("data2vec", "mean", True),
    ("modernbert", "cls", True),
    ("modernbert-wide", "mean", True),
    ("nomic-bert", "mean", True),
    ("eurobert-mean", "mean", True),
    ("jina-v3", "mean", True),
    ("qwen2", "lasttoken", True),
    ("qwen3", "lasttoken", True),
    ("qwen3-bidirectional", "mean", True),
    ("llama", "lasttoken", False),
    ("mistral", "lasttoken", True),
    ("gemma", "lasttoken", True),
    ("gemma2", "lasttoken", True),
    ("embedding-gemma", "mean", True),
    ("embedding-gemma2", "mean", True),
    ("t5", "mean", True),
    ("umt5", "mean", True),
    ("deberta-v2", "mean", True),
    ("mpnet", "mean", True),
    ("gemma2-softcap", "lasttoken", True),
    ("mistral-bidirectional", "mean", True),
]


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as the reference runs it."""

    architecture: str
    served: Served
    reference: SentenceTransformer

    def expected(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """The reference's vectors of texts, each computed alone, unit length."""
        vectors = self.reference.encode(texts, batch_size=1, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


@pytest.fixture(
    scope="module", params=MODELS, ids=lambda model: f"{model[0]}-{model[1]}{'-normalize' if model[2] else ''}"
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    name, pooling, normalize = request.param
    folder = embedding_model(tmp_path_factory.mktemp(name), name, pooling=pooling, normalize=normalize)
    return Pair(name, Served(folder), SentenceTransformer(str(folder), device="cpu"))


@pytest.fixture(scope="module")
def minilm() -> Pair:
    """The default model, with its real weights."""
    folder = local_folder(DEFAULT_MODEL)
    return Pair("bert", Served(folder), SentenceTransformer(str(folder), device="cpu"))


def _close(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)


def test_the_card_tells_what_the_folder_says(pair: Pair) -> None:
    card = pair.served.card

    assert card.packed == (pair.architecture in PACKED)
    assert card.batching == "any"
    assert (card.dimensions, card.max_tokens, card.model_type) == (DIMENSIONS, MAX_TOKENS, "embedding")
    assert card.dtype == "float32"
    assert card.tokens_per_s > 0


def test_a_tiny_model_tells_texts_apart_by_their_words_and_by_their_order(pair: Pair) -> None:
    # Given: otherwise agreement would prove nothing
    vectors = pair.expected(["the river turns the wheel", "the wheel turns the river", "a letter"])

    # Then
    for one in range(3):
        for other in range(one):
            assert np.abs(vectors[one] - vectors[other]).max() > 100 * TOLERANCE


def test_each_text_alone_has_the_references_vector(pair: Pair) -> None:
    expected = pair.expected(TEXTS)

    for text, vector in zip(TEXTS, expected, strict=True):
        _close(pair.served.embed([text])[0], vector)


def test_texts_of_all_lengths_in_one_batch_have_the_references_vectors(pair: Pair) -> None:
    _close(pair.served.embed(TEXTS), pair.expected(TEXTS))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_and_the_company_of_a_text_do_not_change_its_vector(pair: Pair, seed: int) -> None:
    # Given some of the texts, some of them twice, in any order
    chosen = random.Random(seed).choices(TEXTS, k=11)

    # Then
    _close(pair.served.embed(chosen), pair.expected(chosen))


def test_the_reference_agrees_when_it_pads_too(pair: Pair) -> None:
    padded = pair.reference.encode(TEXTS, batch_size=32, normalize_embeddings=True, show_progress_bar=False)

    _close(pair.served.embed(TEXTS), padded)


def test_a_text_that_is_too_long_is_cut_where_the_reference_cuts_it(pair: Pair) -> None:
    # Given lengths around the model's maximum
    texts = ["mill " * count for count in range(MAX_TOKENS - 4, MAX_TOKENS + 3)]

    # Then
    _close(pair.served.embed(texts), pair.expected(texts))


def test_fewer_dimensions_are_the_references_truncation(pair: Pair) -> None:
    expected = pair.reference.encode(
        TEXTS, batch_size=1, truncate_dim=8, normalize_embeddings=True, show_progress_bar=False
    )

    _close(pair.served.embed(TEXTS, dimensions=8), expected)


def test_documents_are_scored_by_the_cosine_of_the_references_vectors(pair: Pair) -> None:
    query, *documents = pair.expected(TEXTS)

    _close(pair.served.rerank(TEXTS[0], TEXTS[1:]), np.stack(documents) @ query)


def test_vectors_without_normalisation_are_the_references_own(tmp_path: Path) -> None:
    # Given a folder without a Normalize module
    folder = embedding_model(tmp_path, "bert", normalize=False)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, batch_size=1, show_progress_bar=False)

    # Then
    _close(Served(folder).embed(TEXTS, normalize=False), expected)


def test_a_folder_that_is_only_a_transformer_is_mean_pooled_as_the_reference_does(tmp_path: Path) -> None:
    # Given a folder without sentence-transformers' files
    embedding_model(tmp_path, "bert")
    folder = tmp_path / "bare"

    # Then
    served = Served(folder)
    reference = Pair("bert", served, SentenceTransformer(str(folder), device="cpu"))
    assert served.card.pooling == "mean"
    _close(served.embed(TEXTS), reference.expected(TEXTS))


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "mpnet"])
def test_a_model_that_does_not_say_its_maximum_takes_no_more_than_it_has_positions_for(
    tmp_path: Path, name: str
) -> None:
    # Given a tokenizer without a maximum (RoBERTa's positions start at 2, so two of them are no room for tokens)
    embedding_model(tmp_path, name)
    folder = _forget_maximum(tmp_path / "bare")

    # When
    served = Served(folder)

    # Then
    assert served.card.max_tokens == MAX_TOKENS
    assert np.isfinite(served.embed(["mill " * 500, "x"])).all()


def _forget_maximum(folder: Path) -> Path:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "alone"])
def test_the_default_model_has_the_references_vectors(minilm: Pair, together: bool) -> None:
    # Given texts up to several times the model's 256 tokens
    texts = [*TEXTS, "the quick brown fox jumps over the lazy dog " * 80]
    embed: Callable[[list[str]], npt.NDArray[np.float32]] = (
        minilm.served.embed if together else lambda texts: np.concatenate([minilm.served.embed([t]) for t in texts])
    )

    # Then
    _close(embed(texts), minilm.expected(texts))


def test_the_default_model_has_the_published_similarities() -> None:
    # Given the table in the model's own documentation
    served = Served(local_folder(DEFAULT_MODEL))

    # When
    vectors = served.embed(SENTENCES)
    similarities = vectors @ vectors.T

    # Then
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(similarities, expected, atol=1e-3)


def test_the_default_model_says_of_itself_what_is_published(minilm: Pair) -> None:
    card = minilm.served.card

    assert (card.dimensions, card.max_tokens, card.pooling, card.packed) == (384, 256, "mean", True)


PROMPTS = {"query": "Instruct: find what answers\nQuery:", "passage": "passage: ", "clustering": "cluster: "}


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model with prompts, of which one is the default."""
    folder = embedding_model(tmp_path_factory.mktemp("prompted"), "qwen3", pooling="lasttoken")
    path = folder / "config_sentence_transformers.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "prompts": PROMPTS, "default_prompt_name": "clustering"})
    )
    return Pair("qwen3", Served(folder), SentenceTransformer(str(folder), device="cpu"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"prompt_name": "passage"}, {"prompt_name": "passage"}),
        ({"prompt": "say: "}, {"prompt": "say: "}),
        ({"prompt": "say: ", "prompt_name": "passage"}, {"prompt": "say: ", "prompt_name": "passage"}),
        ({"prompt": ""}, {"prompt": ""}),
    ],
    ids=str,
)
def test_prompts_are_chosen_as_the_reference_chooses_them(
    prompted: Pair, ours: dict[str, str], theirs: dict[str, str]
) -> None:
    expected = prompted.reference.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False, **theirs)

    _close(prompted.served.embed(TEXTS, **ours), expected)


def test_queries_and_documents_have_prompts_of_their_own(prompted: Pair) -> None:
    quiet = {"normalize_embeddings": True, "show_progress_bar": False}
    queries = prompted.reference.encode_query(TEXTS, **quiet)
    # By itself the reference takes the empty `document` that it adds to what the folder has
    documents = prompted.reference.encode_document(TEXTS, prompt_name="passage", **quiet)

    _close(prompted.served.embed(TEXTS, input_type="query"), queries)
    _close(prompted.served.embed(TEXTS, input_type="document"), documents)
    _close(prompted.served.rerank(TEXTS[0], TEXTS), documents @ queries[0])


@pytest.mark.parametrize(
    ("prompts", "of_query", "of_document"),
    [
        ({"retrieval.query": "find: ", "retrieval.passage": "text: "}, "find: ", "text: "),
        ({"search_query": "find: ", "search_document": "text: "}, "find: ", "text: "),
        ({"query": "find: ", "corpus": "text: "}, "find: ", "text: "),
        ({"query": "find: ", "document": "", "passage": "text: "}, "find: ", ""),
        ({"query": "", "document": "", "retrieval.query": "find: "}, "", ""),
        ({"default": "say: "}, "", ""),
    ],
    ids=["retrieval", "search", "corpus", "empty for documents", "empty for both", "default alone"],
)
def test_prompts_of_a_search_have_the_names_that_folders_give_them(
    tmp_path: Path, prompts: dict[str, str], of_query: str, of_document: str
) -> None:
    # Given a folder with these prompts and a default
    folder = embedding_model(tmp_path, "bert")
    path = folder / "config_sentence_transformers.json"
    default = {"prompts": prompts, "default_prompt_name": next(reversed(prompts))}
    path.write_text(json.dumps({**json.loads(path.read_text()), **default}))
    served, reference = Served(folder), SentenceTransformer(str(folder), device="cpu")

    # Then what it says is empty is empty, and what it does not have is not the default
    for input_type, prompt in (("query", of_query), ("document", of_document)):
        expected = reference.encode(TEXTS, prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        _close(served.embed(TEXTS, input_type=input_type), expected)
    assert served.card.prompts == [name for name, words in prompts.items() if words]


def test_the_names_that_the_reference_gives_every_model_can_be_asked_for(tmp_path: Path) -> None:
    served = Served(embedding_model(tmp_path, "bert"))

    for name in ("query", "document"):
        _close(served.embed(TEXTS, prompt_name=name), served.embed(TEXTS))


def test_a_prompt_that_the_model_does_not_have_is_refused_with_those_that_it_has(prompted: Pair) -> None:
    with pytest.raises(InvalidRequest, match=r"no prompt 'nothing'; it has: query, passage, clustering"):
        prompted.served.embed(["a"], prompt_name="nothing")


@pytest.mark.parametrize("pooling", ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"])
@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_pooling_can_leave_the_prompt_out(tmp_path: Path, architecture: str, pooling: str) -> None:
    # Given INSTRUCTOR's rule: the prompt is read, and not averaged
    folder = embedding_model(tmp_path, architecture)
    path = folder / "1_Pooling" / "config.json"
    stated = {"embedding_dimension": DIMENSIONS, "pooling_mode": pooling, "include_prompt": False}
    path.write_text(json.dumps(stated))
    served, reference = Served(folder), SentenceTransformer(str(folder), device="cpu")
    texts, prompts = TEXTS[:12], ("Represent the sentence: ", "x")
    quiet = {"batch_size": 1, "normalize_embeddings": True, "show_progress_bar": False}
    expected = [reference.encode(texts, prompt=prompt, **quiet) for prompt in ("", *prompts)]

    # Then
    assert served.card.pooling == pooling
    for prompt, vectors in zip(prompts, expected[1:], strict=True):
        _close(served.embed(texts, prompt=prompt), vectors)

    # And texts with other prompts and with none share a batch
    tokens = [served.tokenizer.encode(texts, prompt=prompt) for prompt in ("", *prompts)]
    mixed = [one for of_text in zip(*tokens, strict=True) for one in of_text]
    rows = served.forward(mixed, [Kind.DENSE])[Kind.DENSE].values
    together = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _close(together, np.stack(expected, axis=1).reshape(together.shape))


@pytest.mark.parametrize(
    ("architecture", "pooling"), [("bert", "mean"), ("qwen3", "lasttoken"), ("embedding-gemma", "mean")]
)
def test_bfloat16_vectors_point_where_the_references_float32_vectors_point(
    tmp_path: Path, architecture: str, pooling: Literal["mean", "lasttoken"]
) -> None:
    folder = embedding_model(tmp_path, architecture, pooling=pooling)
    quiet = {"batch_size": 1, "normalize_embeddings": True, "show_progress_bar": False}
    exact = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, **quiet)
    coarse = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16}).encode(
        TEXTS, **quiet
    )

    cosines = np.einsum("ij,ij->i", Served(folder, dtype="bfloat16").embed(TEXTS), exact)

    # These weights are sharper than trained ones: the reference itself may stay below 0.999
    references = np.einsum("ij,ij->i", coarse.astype(np.float32), exact)
    assert cosines.min() > min(0.999, references.min())


def test_a_text_is_cut_where_rotary_frequencies_would_change_for_its_neighbours(tmp_path: Path) -> None:
    # Given frequencies that change with the longest text that ever ran, beyond 24 tokens
    folder = embedding_model(tmp_path, "llama-dynamic", pooling="lasttoken")
    served, reference = Served(folder), SentenceTransformer(str(folder), device="cpu")
    reference.max_seq_length = MAX_TOKENS // 2

    # When
    alone = served.embed(["the river turns"])
    together = served.embed(["mill " * 200, "the river turns"])

    # Then
    assert served.card.max_tokens == MAX_TOKENS // 2
    assert not served.card.packed
    _close(together[1:], alone)
    _close(served.embed(TEXTS), Pair("llama-dynamic", served, reference).expected(TEXTS))


def test_a_text_without_any_token_is_refused_and_not_given_its_neighbours_vector(tmp_path: Path) -> None:
    # Given a tokenizer that adds no token of its own
    folder = embedding_model(tmp_path, "qwen3", pooling="lasttoken")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))
    served = Served(folder)

    # Then
    with pytest.raises(InvalidRequest, match="input 1 has no tokens"):
        served.embed(["a secret", ""])


def test_a_folder_that_puts_texts_through_a_chat_template_is_refused(tmp_path: Path) -> None:
    # Given a bare decoder whose tokenizer has a template, which sentence-transformers then applies to each text
    embedding_model(tmp_path, "qwen3")
    folder = tmp_path / "bare"
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")

    # Then
    with pytest.raises(ConfigurationError, match="chat template"):
        Served(folder)


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_a_rotary_scaling_that_looks_at_the_whole_batch_is_not_packed(rope: str) -> None:
    from transformers import Qwen3Config

    factors = {"long_factor": [1.0] * 64, "short_factor": [1.0] * 64, "original_max_position_embeddings": 64}
    parameters = {"rope_type": rope, "factor": 2.0, "rope_theta": 10_000.0}
    config = Qwen3Config(rope_parameters=parameters | (factors if rope == "longrope" else {}))

    assert not packs(config)
    assert packs(Qwen3Config(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}))
