"""A tiny model of each kind and family, and what to ask of it: one array of numbers for each text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder, SparseEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

from shared.jobs import EmbedRequest
from shared.results import Kind, Ragged
from tests.gpu.comparison import Array
from tests.helpers.through_engine import Served
from tests.helpers.tiny_embedding_gemma2 import embedding_gemma2
from tests.helpers.tiny_image_models import NAMES as IMAGE_MODELS
from tests.helpers.tiny_image_models import encoded, image_text_model, picture
from tests.helpers.tiny_models import (
    ARCHITECTURES,
    DIMENSIONS,
    cross_encoder,
    embedding_model,
    masked_language_model,
)
from tests.helpers.tiny_monot5 import MODELS as MONOT5
from tests.helpers.tiny_monot5 import monot5
from tests.helpers.tiny_qwen3_vl import qwen3_vl
from tests.helpers.tiny_rerankers import MODELS as RERANKERS
from tests.helpers.tiny_rerankers import causal_reranker, logit_score_reranker

QUERY = "what turns the wheel?"
#: More than any tiny model's vocabulary has.
_ENTRIES = 32_768
_WIDTH = 24
#: Factor on the tiny models' weights that makes them as calm as trained ones. As they are, sharp enough to show a wrong
#: neighbour, they also amplify rounding: bfloat16 on the CPU, by transformers itself, falls to a cosine of 0.975.
_CALM = 0.3
#: What does not leave float16's range in any checkpoint: the model types to which `auto` gives float16 on old cards.
_BERT_LIKE = frozenset(
    {"albert", "bert", "camembert", "data2vec", "distilbert", "electra", "ernie", "roberta", "xlm-roberta"}
)


@dataclass(frozen=True)
class Case:
    """A model and a question."""

    name: str
    build: Callable[[Path], Path]
    #: Numbers for each text; all texts share one forward pass.
    ask: Callable[[Served, Sequence[str]], list[Array]]
    #: Whether an answer is scores between 0 and 1, which have no direction.
    is_score: bool = False
    #: Whether it is served in float16 too.
    takes_float16: bool = False


def calm(folder: Path) -> Path:
    """Give a folder's model weights that treat rounding as trained ones do."""
    for path in folder.rglob("*.safetensors"):
        weights = load_file(path)
        save_file({name: _calmer(name, value) for name, value in weights.items()}, path, metadata={"format": "pt"})
    return folder


def _calmer(name: str, value: torch.Tensor) -> torch.Tensor:
    is_product = value.ndim == 2 and "embed" not in name
    return (value * _CALM if is_product else value).contiguous()


def cases() -> list[Case]:
    """All of them."""
    return [
        *(_dense(name, pooling) for name, pooling in _POOLINGS.items()),
        *(_cross_encoder(entry.name) for entry in ARCHITECTURES.values() if entry.classifier is not None),
        *(_causal_reranker(name) for name in RERANKERS),
        *(_logit_score(name, template) for name, template in _TEMPLATES.items()),
        *(_splade(name) for name in ("bert", "distilbert", "modernbert", "xlm-roberta")),
        *(_late_interaction(name, expansion) for name, expansion in _EXPANSIONS.items()),
        _classifier(),
        _bge_m3(),
        *(_image_text(name) for name in IMAGE_MODELS),
        Case("image and text qwen3-vl", lambda folder: qwen3_vl(folder / "model"), _texts_and_pictures),
        Case("image and text embedding-gemma2", lambda folder: embedding_gemma2(folder / "model"), _texts_and_pictures),
        *(Case(name, partial(monot5, name=name), _scores, is_score=True) for name in MONOT5),
    ]


#: How the vectors of each architecture are pooled.
_POOLINGS: dict[str, Literal["mean", "cls", "lasttoken"]] = {
    "bert": "mean",
    "roberta": "mean",
    "xlm-roberta": "cls",
    "distilbert": "mean",
    "electra": "mean",
    "albert": "mean",
    "ernie": "cls",
    "camembert": "mean",
    "xlm-roberta-xl": "mean",
    "data2vec": "mean",
    "modernbert": "cls",
    "modernbert-wide": "mean",
    "nomic-bert": "mean",
    "eurobert-mean": "mean",
    "jina-v3": "mean",
    "qwen2": "lasttoken",
    "qwen3": "lasttoken",
    "qwen3-bidirectional": "mean",
    "llama": "lasttoken",
    "mistral": "lasttoken",
    "gemma": "lasttoken",
    "gemma2": "lasttoken",
    "embedding-gemma": "mean",
    "embedding-gemma2": "mean",
    "t5": "mean",
    "umt5": "mean",
    "mpnet": "mean",
    "deberta-v2": "mean",
    "gemma2-softcap": "lasttoken",
    "mistral-bidirectional": "mean",
}
_EXPANSIONS: dict[str, dict[str, Any] | None] = {
    "bert": {"strategy": "fixed", "attend": False, "length": 16},
    "modernbert": {"strategy": "min", "attend": True, "length": 8},
    "xlm-roberta": None,
}


#: Chat templates of language models that say of themselves how they score.
_TEMPLATES: dict[str, str | None] = {"qwen3": "instructed", "llama": "any role", "mistral": None}


def _dense(name: str, pooling: Literal["mean", "cls", "lasttoken"]) -> Case:
    return Case(
        f"dense {name}",
        lambda folder: embedding_model(folder, name, pooling=pooling),
        lambda served, texts: list(served.embed(texts)),
        takes_float16=name in _BERT_LIKE,
    )


def _scores(served: Served, texts: Sequence[str]) -> list[Array]:
    return list(served.rerank(QUERY, texts)[:, None])


def _cross_encoder(name: str) -> Case:
    return Case(
        f"cross-encoder {name}",
        lambda folder: cross_encoder(folder, name),
        _scores,
        is_score=True,
        takes_float16=name in _BERT_LIKE,
    )


def _causal_reranker(name: str) -> Case:
    return Case(f"causal reranker {name}", lambda folder: causal_reranker(folder, name), _scores, is_score=True)


def _logit_score(name: str, template: str | None) -> Case:
    return Case(
        f"logit score {name}", lambda folder: logit_score_reranker(folder, name, template), _scores, is_score=True
    )


def _classifier() -> Case:
    labels = ("negative", "neutral", "positive")
    return Case(
        "classifier bert",
        lambda folder: cross_encoder(folder, "bert", labels=labels),
        lambda served, texts: list(served.classify(texts)),
        is_score=True,
        takes_float16=True,
    )


def _splade(name: str) -> Case:
    def build(folder: Path) -> Path:
        modules = [MLMTransformer(str(masked_language_model(folder / "bare", name))), SpladePooling("max")]
        SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder / "model"), create_model_card=False)
        return folder / "model"

    def ask(served: Served, texts: Sequence[str]) -> list[Array]:
        request = EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=[Kind.SPARSE])
        return _over_vocabulary(served.answer(request).sparse)

    return Case(f"splade {name}", build, ask, takes_float16=name in _BERT_LIKE)


def _late_interaction(name: str, expansion: dict[str, Any] | None) -> Case:
    def build(folder: Path) -> Path:
        embedding_model(folder, name)
        torch.manual_seed(5)
        modules = [
            Transformer(str(folder / "bare"), query_expansion=expansion),
            Dense(DIMENSIONS, _WIDTH, bias=False, activation_function=None, module_input_name="token_embeddings"),
            MultiVectorMask(skiplist_words=[".", ","]),
            Normalize(module_input_name="token_embeddings"),
        ]
        made = MultiVectorEncoder(modules=modules, prompts={"query": "q: "}, device="cpu")
        made.save_pretrained(str(folder / "model"), create_model_card=False)
        return folder / "model"

    def ask(served: Served, texts: Sequence[str]) -> list[Array]:
        of_kinds = []
        for input_type in ("query", "document"):
            request = EmbedRequest(
                request_id="r", deadline=0, texts=texts, kinds=[Kind.MULTIVECTOR], input_type=input_type
            )
            of_kinds.append(_rows(served.answer(request).multivector))
        return [np.concatenate(both) for both in zip(*of_kinds, strict=True)]

    return Case(f"late interaction {name}", build, ask, takes_float16=name in _BERT_LIKE)


def _bge_m3() -> Case:
    def build(folder: Path) -> Path:
        embedding_model(folder, "xlm-roberta", pooling="cls")
        generator = torch.Generator().manual_seed(3)
        for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", _WIDTH)):
            weight = torch.randn((rows, DIMENSIONS), generator=generator)
            torch.save({"weight": weight, "bias": torch.randn(rows, generator=generator)}, folder / "bare" / name)
        return folder / "bare"

    def ask(served: Served, texts: Sequence[str]) -> list[Array]:
        kinds = [Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR]
        output = served.answer(EmbedRequest(request_id="r", deadline=0, texts=texts, kinds=kinds))
        dense = np.frombuffer(output.data, "<f4").reshape(output.shape)
        parts = zip(dense, _over_vocabulary(output.sparse), _rows(output.multivector), strict=True)
        return [np.concatenate([part.ravel() for part in of_text]) for of_text in parts]

    return Case("bge-m3", build, ask, takes_float16=True)


def _texts_and_pictures(served: Served, texts: Sequence[str]) -> list[Array]:
    """The vectors of each text and of a picture that belongs to it, all in one batch."""
    pictures = [encoded(picture(30 + len(text) % 50, 40 + len(text) % 30, seed=len(text))) for text in texts]
    nothing: list[bytes | None] = [None] * len(texts)
    vectors = served.embed([*texts, *[""] * len(texts)], images=[*nothing, *pictures])
    return list(np.concatenate(np.split(vectors, 2), axis=1))


def _image_text(name: str) -> Case:
    return Case(
        f"image and text {name}",
        lambda folder: image_text_model(folder, name),
        _texts_and_pictures,
        takes_float16=True,
    )


def _rows(ragged: Ragged | None) -> list[Array]:
    """The rows of each text, shape (rows, width)."""
    assert ragged is not None
    ends = np.cumsum(np.frombuffer(ragged.counts, "<i4"))[:-1]
    return np.split(np.frombuffer(ragged.values, "<f4").reshape(-1, ragged.width), ends)


def _over_vocabulary(ragged: Ragged | None) -> list[Array]:
    """The weights of each text with the zeros between them: an entry may come or go where its weight is about zero."""
    assert ragged is not None
    values = _rows(ragged)
    ends = np.cumsum([len(rows) for rows in values])[:-1]
    columns = np.split(np.frombuffer(ragged.indices or b"", "<i4"), ends)
    full = [np.zeros(_ENTRIES, np.float32) for _ in values]
    for weights, at, rows in zip(full, columns, values, strict=True):
        weights[at] = rows[:, 0]
    return full
