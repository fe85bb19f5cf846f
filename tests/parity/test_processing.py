"""A folder's `processing_kwargs`, by which sentence-transformers calls the tokenizer, are kept or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

from shared.model_config import ConfigurationError
from tests.helpers.texts import SENTENCES, TEXTS
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import MAX_TOKENS, cross_encoder, embedding_model, masked_language_model

TOLERANCE = 1e-5
_WITHOUT_SPECIALS = {"text": {"add_special_tokens": False}}
_SHORT = {"text": {"max_length": 40, "padding": "max_length"}, "common": {"max_length": 12}}


def _call(folder: Path, processing: dict[str, Any]) -> None:
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processing_kwargs": processing}))


@pytest.mark.parametrize(
    ("processing", "texts", "longest"),
    [(_WITHOUT_SPECIALS, [text for text in TEXTS if text.strip()], MAX_TOKENS), (_SHORT, TEXTS, 12)],
    ids=["without special tokens", "shorter"],
)
@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_an_embedding_model(
    tmp_path: Path, architecture: str, processing: dict[str, Any], texts: list[str], longest: int
) -> None:
    folder = embedding_model(tmp_path, architecture)
    _call(folder, processing)
    reference, served = SentenceTransformer(str(folder), device="cpu"), Served(folder)

    expected = reference.encode(texts, batch_size=1, normalize_embeddings=True)

    np.testing.assert_allclose(served.embed(texts), expected, atol=TOLERANCE)
    assert served.card.max_tokens == longest


@pytest.mark.parametrize("processing", [_WITHOUT_SPECIALS, {"common": {"max_length": 16}}])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_cross_encoder(tmp_path: Path, architecture: str, processing: dict[str, Any]) -> None:
    folder = tmp_path / "saved"
    CrossEncoder(str(cross_encoder(tmp_path, architecture)), device="cpu").save_pretrained(str(folder))
    _call(folder, processing)
    reference, served = CrossEncoder(str(folder), device="cpu"), Served(folder)
    documents = [text for text in TEXTS if text.strip()]

    expected = reference.predict(
        [("a mill", text) for text in documents], batch_size=1, activation_fn=torch.nn.Sigmoid()
    )

    np.testing.assert_allclose(served.rerank("a mill", documents), expected, atol=TOLERANCE)


def test_a_sparse_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    bare = masked_language_model(tmp_path / "bare", "bert")
    transformer = Transformer(str(bare), transformer_task="fill-mask", processing_kwargs=_WITHOUT_SPECIALS)
    SparseEncoder(modules=[transformer, SpladePooling()], device="cpu").save_pretrained(str(folder))
    reference, served = SparseEncoder(str(folder), device="cpu"), Served(folder)

    vectors = reference.encode([SENTENCES[0], *SENTENCES[1:]], batch_size=1, convert_to_sparse_tensor=False)

    expected = (vectors[:1] @ vectors[1:].T)[0]
    scores = served.rerank(SENTENCES[0], SENTENCES[1:], raw_scores=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def _limit(folder: Path, **lengths: Any) -> None:
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | lengths))


def test_queries_and_documents_of_an_embedding_model_have_lengths_of_their_own(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "bert")
    _limit(folder, query_length=8, document_length=16)
    reference, served = SentenceTransformer(str(folder), device="cpu"), Served(folder)

    queries = reference.encode_query(TEXTS, batch_size=1, normalize_embeddings=True)
    documents = reference.encode_document(TEXTS, batch_size=1, normalize_embeddings=True)

    np.testing.assert_allclose(served.embed(TEXTS, input_type="query"), queries, atol=TOLERANCE)
    np.testing.assert_allclose(served.embed(TEXTS, input_type="document"), documents, atol=TOLERANCE)
    np.testing.assert_allclose(served.embed(TEXTS), reference.encode(TEXTS, batch_size=1), atol=TOLERANCE)


def test_queries_and_documents_of_a_sparse_encoder_have_lengths_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    transformer = Transformer(str(masked_language_model(tmp_path / "bare", "bert")), transformer_task="fill-mask")
    SparseEncoder(modules=[transformer, SpladePooling()], device="cpu").save_pretrained(str(folder))
    _limit(folder, query_length=8, document_length=16)
    reference, served = SparseEncoder(str(folder), device="cpu"), Served(folder)
    query, documents = TEXTS[5], TEXTS[4:8]

    of_query = reference.encode_query([query], batch_size=1, convert_to_sparse_tensor=False)
    of_documents = reference.encode_document(documents, batch_size=1, convert_to_sparse_tensor=False)

    scores = served.rerank(query, documents, raw_scores=True)
    np.testing.assert_allclose(scores, (of_query @ of_documents.T)[0], rtol=1e-4)


def test_queries_of_a_dense_model_that_are_to_be_expanded_are_refused(tmp_path: Path) -> None:
    folder = embedding_model(tmp_path, "bert")
    _limit(folder, query_expansion={"strategy": "fixed", "attend": False, "length": 16})

    with pytest.raises(ConfigurationError, match="queries of a dense model are not expanded"):
        Served(folder)


def _split(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_special_tokens": True}))


@pytest.mark.parametrize("way", ["the tokenizer's own file", "processing_kwargs"])
def test_special_tokens_in_a_text_are_words_where_the_folder_says_so(tmp_path: Path, way: str) -> None:
    folder = embedding_model(tmp_path, "bert")
    texts = ["a [SEP] b", "[MASK] x [PAD]", *SENTENCES]
    before = Served(folder).embed(texts)
    if way == "processing_kwargs":
        _call(folder, {"text": {"split_special_tokens": True}})
    else:
        _split(folder)
    reference, served = SentenceTransformer(str(folder), device="cpu"), Served(folder)

    vectors = served.embed(texts)

    expected = reference.encode(texts, batch_size=1, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
    assert np.abs(vectors[:2] - before[:2]).max(axis=1).min() > 1e-3


def test_special_tokens_in_a_pair_are_words_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "bert")
    _split(folder)
    documents = ["a [SEP] b", "[MASK] x"]

    expected = CrossEncoder(str(folder), device="cpu").predict(
        [("a [SEP]", text) for text in documents], batch_size=1, activation_fn=torch.nn.Sigmoid()
    )

    np.testing.assert_allclose(Served(folder).rerank("a [SEP]", documents), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("processing", "named"),
    [
        ({"text": {"truncation": False}}, "truncation=False"),
        ({"common": {"is_split_into_words": True}}, "is_split_into_words=True"),
    ],
)
def test_what_is_not_done_is_refused_by_name(tmp_path: Path, processing: dict[str, Any], named: str) -> None:
    folder = embedding_model(tmp_path, "bert")
    _call(folder, processing)

    with pytest.raises(ConfigurationError, match=f"{named} of the processing_kwargs in its sentence_bert_config.json"):
        Served(folder)
