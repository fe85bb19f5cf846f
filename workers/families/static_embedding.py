"""Static embeddings (Model2Vec's potion, static-retrieval-mrl): a text is the mean of vectors that its tokens always have.

sentence-transformers' `StaticEmbedding` loads the table, folds Model2Vec's mapping and weights into it, and takes no token
around a text. It is a lookup and a sum, so it runs in float32 whatever is asked for.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize, StaticEmbedding
from torch.nn import functional

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.family import Family, Outputs, library_options
from workers.input_format import InputFormat
from workers.packed import LONGEST_UNSTATED, upload
from workers.prompts import unstated_prompts
from workers.sequences import Sequences
from workers.similarity import dense_scoring, operations_of
from workers.tail import tail_of
from workers.weights import STATIC_EMBEDDING, first_module_type

#: Model type of the folders that Model2Vec writes.
_MODEL2VEC = "model2vec"
#: What may follow the table: modules that look at one vector.
_TAIL = (Dense, LayerNorm, Dropout, Normalize)


class StaticTable:
    """One loaded table."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device) -> None:
        model = SentenceTransformer(str(folder), **library_options(device, torch.float32)).eval()
        first, *modules = model
        if not isinstance(first, StaticEmbedding):
            raise ConfigurationError(f"model {config.name}: its modules.json does not begin with a {STATIC_EMBEDDING}")
        self._device = device
        self._table = first.embedding.weight.detach().float()
        scoring, whole = dense_scoring(model.similarity_fn_name, type(model[-1]).__name__, model.truncate_dim)
        self._tail = tail_of(config.name, modules, _TAIL, whole=whole)
        self._dimensions = model.truncate_dim or model.get_embedding_dimension()
        described = json.loads(first.tokenizer.to_str())
        self.input_format = InputFormat(
            # What would put special tokens around a text.
            tokenizer_json=json.dumps({**described, "post_processor": None}),
            max_tokens=int((described["truncation"] or {}).get("max_length", LONGEST_UNSTATED)),
            prompts=dict(model.prompts),
            unstated_prompts=unstated_prompts(folder, model.prompts),
            default_prompt_name=model.default_prompt_name,
            embeddings=len(self._table),
        )
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.DENSE],
            scoring=scoring or "cosine",
            prompts=[name for name, prompt in model.prompts.items() if prompt],
            dimensions=self._dimensions,
            max_tokens=self.input_format.max_tokens,
            pooling="mean",
            dtype="float32",
            packed=True,
            architecture=STATIC_EMBEDDING,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Means of the tokens' vectors, not normalised."""
        starts = sequences.lengths.cumsum() - sequences.lengths
        ids, offsets = upload(sequences.ids, self._device), upload(starts.astype(sequences.ids.dtype), self._device)
        features = {"sentence_embedding": functional.embedding_bag(ids, self._table, offsets, mode="mean")}
        for module in self._tail:
            features = module(features)
        return {Kind.DENSE: features["sentence_embedding"][:, : self._dimensions]}


class StaticEmbeddingFamily:
    """Folders of sentence-transformers whose first module is a `StaticEmbedding`; Model2Vec writes such too."""

    name = "static_embedding"
    priority = 40

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Told by the list of modules; most such folders have no `config.json`. One without a list is Model2Vec's own."""
        return first_module_type(folder) == STATIC_EMBEDDING or config.get("model_type") == _MODEL2VEC

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> StaticTable:  # noqa: ARG002
        """Load a table."""
        if not (folder / "modules.json").exists():
            raise ConfigurationError(
                f"model {config.name}: {folder} has no modules.json, which tells how the table is read; current versions of "
                "Model2Vec write one when they save a model"
            )
        return StaticTable(config, folder, device)


PLUGIN: Family = StaticEmbeddingFamily()
