"""Static embeddings are those of sentence-transformers' `StaticEmbedding`, in its folders and in Model2Vec's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer

from shared.errors import InvalidRequest
from shared.model_config import DEFAULT_MODEL, ConfigurationError
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from workers.weights import local_folder

TOLERANCE = 1e-5
WIDTH = 24
#: Of white space BERT's tokenizer makes no token.
FULL = [text for text in TEXTS if text.strip()]


def _tokenizer(*, longest: int | None = None) -> Tokenizer:
    """BERT's, with its special tokens around each text, its padding, and perhaps a longest text of its own."""
    tokenizer = Tokenizer.from_file(str(local_folder(DEFAULT_MODEL) / "tokenizer.json"))
    tokenizer.enable_padding()
    if longest is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(longest)
    return tokenizer


def _static(folder: Path, *others: torch.nn.Module, longest: int | None = None, **options: Any) -> SentenceTransformer:
    """Write a folder as sentence-transformers does, and read it back."""
    torch.manual_seed(7)
    first = StaticEmbedding(_tokenizer(longest=longest), embedding_dim=WIDTH)
    model = SentenceTransformer(modules=[first, *others], device="cpu", **options)
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def _close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=TOLERANCE)


def test_vectors_are_the_references_alone_and_together(tmp_path: Path) -> None:
    reference = _static(tmp_path)
    served = Served(tmp_path)

    expected = reference.encode(FULL)

    _close(served.embed(FULL, normalize=False), expected)
    _close(np.concatenate([served.embed([text], normalize=False) for text in FULL]), expected)
    _close(served.embed(FULL), reference.encode(FULL, normalize_embeddings=True))
    assert (served.card.dimensions, served.card.architecture, served.card.pooling) == (WIDTH, "StaticEmbedding", "mean")
    assert (served.card.dtype, served.card.operations) == ("float32", ["embed", "rerank"])


def test_a_long_text_is_read_whole(tmp_path: Path) -> None:
    reference = _static(tmp_path)
    text = " ".join(f"mill {number}" for number in range(4000))

    _close(Served(tmp_path).embed([text]), reference.encode([text], normalize_embeddings=True))


def test_the_longest_text_of_a_tokenizer_is_kept(tmp_path: Path) -> None:
    reference = _static(tmp_path, longest=16)
    served = Served(tmp_path)

    _close(served.embed(FULL, normalize=False), reference.encode(FULL))
    assert served.card.max_tokens == 16


def test_modules_dimensions_and_prompts_of_the_folder_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(3)
    prompts = {"query": "question: ", "document": ""}
    reference = _static(tmp_path, Normalize(), Dense(WIDTH, 16), Normalize(), truncate_dim=8, prompts=prompts)
    served = Served(tmp_path)

    _close(served.embed(FULL, prompt_name="query"), reference.encode_query(FULL, normalize_embeddings=True))
    _close(served.embed(FULL), reference.encode_document(FULL, normalize_embeddings=True))
    assert (served.card.dimensions, served.card.prompts) == (8, ["query"])


def test_documents_have_the_prompt_of_passages_where_the_folder_has_no_other(tmp_path: Path) -> None:
    _static(tmp_path)
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": {"passage": "text: "}}))
    reference = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)

    vectors = Served(tmp_path).embed(FULL, input_type="document")

    _close(vectors, reference.encode(FULL, prompt="text: ", normalize_embeddings=True))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_reranking_is_by_what_the_folder_names(tmp_path: Path, similarity: str) -> None:
    reference = _static(tmp_path, similarity_fn_name=similarity)
    query, documents = reference.encode(["mill"]), reference.encode(FULL)

    _close(Served(tmp_path).rerank("mill", FULL, raw_scores=True), reference.similarity(query, documents)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_of_model2vec_with_a_mapping_and_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    # Given what potion's folders hold, with a vocabulary whose tokens share 500 vectors
    tokenizer = _tokenizer()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    torch.manual_seed(7)
    tensors = {
        "embeddings": torch.randn(500, WIDTH).to(dtype),
        "mapping": torch.randint(500, (size,)),
        "weights": torch.rand(size, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    described = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True, "hidden_dim": WIDTH}
    (tmp_path / "config.json").write_text(json.dumps(described))
    types = ["sentence_transformers.models.StaticEmbedding", "sentence_transformers.models.Normalize"]
    modules = [{"idx": at, "name": str(at), "path": [".", "1_Normalize"][at], "type": types[at]} for at in range(2)]
    (tmp_path / "modules.json").write_text(json.dumps(modules))

    # When
    reference = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)

    # Then: the mean of halves is rounded by the reference, and not here
    tolerance = TOLERANCE if dtype is torch.float32 else 1e-3
    np.testing.assert_allclose(Served(tmp_path).embed(FULL), reference.encode(FULL), atol=tolerance)


def test_a_token_without_a_row_is_refused_and_the_others_are_served(tmp_path: Path) -> None:
    _static(tmp_path)
    path = next(tmp_path.rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens(["[FOO]"])
    tokenizer.save(str(path))
    served = Served(tmp_path)

    with pytest.raises(InvalidRequest, match="input 1 has a token that model has no embedding for"):
        served.embed(["fine", "a [FOO] b"])
    assert served.embed(["fine"]).shape == (1, WIDTH)


def test_a_text_without_a_token_is_refused(tmp_path: Path) -> None:
    _static(tmp_path)

    with pytest.raises(InvalidRequest, match="input 1 has no tokens"):
        Served(tmp_path).embed(["mill", ""])


def test_a_folder_of_model2vec_without_modules_says_what_it_lacks(tmp_path: Path) -> None:
    _static(tmp_path)
    (tmp_path / "modules.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "model2vec", "architectures": ["StaticModel"]}')

    with pytest.raises(ConfigurationError, match=r"has no modules\.json.* current versions of Model2Vec write one"):
        Served(tmp_path)


def test_a_pickled_table_is_not_read(tmp_path: Path) -> None:
    _static(tmp_path)
    path = next(tmp_path.rglob("model.safetensors"))
    path.rename(path.with_name("pytorch_model.bin"))

    with pytest.raises(ConfigurationError, match="only safetensors are read here"):
        Served(tmp_path)
