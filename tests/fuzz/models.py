"""The models of the fuzzed service: one of every kind, so that each route has one that answers it."""

import string
from pathlib import Path

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize

from tests.helpers.tiny_image_models import image_text_model
from tests.helpers.tiny_models import DIMENSIONS, cross_encoder, embedding_model, masked_language_model

#: Served first, so that it is the default.
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


def models(folder: Path) -> list[str]:
    """Write tiny models; the names of all that are served."""
    image_text_model(folder / "images", "clip").rename(folder / "image-model")
    made = [
        masked_language_model(folder / "sparse-model", "bert"),
        cross_encoder(folder / "rerank-model", "modernbert"),
        cross_encoder(folder / "label-model", "bert", labels=("bad", "good")),
        _late_interaction(folder),
        folder / "image-model",
    ]
    return [DEFAULT, *map(str, made)]


def _late_interaction(folder: Path) -> Path:
    embedding_model(folder / "late", "bert")
    torch.manual_seed(5)
    modules = [
        Transformer(str(folder / "late" / "bare")),
        Dense(DIMENSIONS, 24, bias=False, activation_function=None, module_input_name="token_embeddings"),
        MultiVectorMask(skiplist_words=list(string.punctuation)),
        Normalize(module_input_name="token_embeddings"),
    ]
    made = MultiVectorEncoder(modules=modules, device="cpu")
    made.save_pretrained(str(folder / "late-model"), create_model_card=False)
    return folder / "late-model"
