"""A dense embedding model, as sentence-transformers describes it; families with more heads build on it.

It loads, configures and post-processes them (pooling, dense layers, maximum length); the batch and the attention are ours.

Final `Normalize` modules are left out: normalisation is asked for per request, and done in float32 by the worker.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize, Pooling
from torch import Tensor

from shared.errors import first_line
from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.encoder import Encoder, Hidden
from workers.family import Outputs, library_options
from workers.input_format import InputFormat
from workers.packed import longest_input, upload
from workers.prompts import unstated_prompts
from workers.sequences import Sequences
from workers.similarity import dense_scoring, operations_of
from workers.tail import tail_of
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

#: Modules that look at one token or one vector at a time, so that packed neighbours do not matter; and poolings.
_TAIL = (Pooling, Dense, LayerNorm, Dropout, Normalize)


#: An id that every vocabulary has.
_ANY_TOKEN = 5


class SentenceEmbedding:
    """One loaded embedding model."""

    def __init__(
        self,
        config: ModelConfig,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        *,
        bare_pooling: str = "mean",
    ) -> None:
        """Load a folder.

        Args:
            config: What was asked for.
            folder: Its files.
            device: Where it runs.
            dtype: Number format of the transformer.
            bare_pooling: How a folder without a list of modules is pooled; the mean is sentence-transformers' way.

        Raises:
            ConfigurationError: It has something that is not served here.
        """
        model = SentenceTransformer(str(folder), **library_options(device, dtype)).eval()
        if not isinstance(model[0], Transformer):
            raise ConfigurationError(f"model {config.name}: {_unread(model[0])}")
        self.tokenizer = tokenizer = model.tokenizer
        # Half precision is for the transformer: what follows is little work, and its rounding would be the vector's.
        scoring, whole = dense_scoring(model.similarity_fn_name, type(model[-1]).__name__, model.truncate_dim)
        self._tail = tail_of(config.name, list(model)[1:], _TAIL, whole=whole)
        if not (folder / "modules.json").exists():
            self._tail = [Pooling(model.get_embedding_dimension(), bare_pooling)]
        pooling = next((module for module in self._tail if isinstance(module, Pooling)), None)
        if pooling is None:
            raise ConfigurationError(f"model {config.name} is not a text embedding model")
        if "message" in getattr(model[0], "modality_config", {}):
            raise ConfigurationError(
                f"model {config.name}: its files put texts through the tokenizer's chat template, which is not done here; "
                "if it was trained on bare texts, leave `message` out of sentence_bert_config.json's modality_config"
            )
        if getattr(model[0], "query_expansion", None):
            raise ConfigurationError(f"model {config.name}: queries of a dense model are not expanded here")
        transformer = model[0].model
        self._encoder = Encoder(transformer, tokenizer, device, trace_lone=True)
        self.base_model = transformer
        call = TokenizerCall.of(config.name, tokenizer, model[0].processing_kwargs)
        max_tokens = longest_input(transformer, call.max_length or int(model.max_seq_length))
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=max_tokens,
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            prompts=dict(model.prompts),
            unstated_prompts=unstated_prompts(folder, model.prompts),
            default_prompt_name=model.default_prompt_name,
            query_max_tokens=call.limit(model[0].query_length, max_tokens),
            document_max_tokens=call.limit(model[0].document_length, max_tokens),
            skip_prompt=not pooling.include_prompt,
        )
        self._truncate_dim = model.truncate_dim
        dimensions = self._width(config)
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.DENSE],
            scoring=scoring or "cosine",
            prompts=[name for name, prompt in model.prompts.items() if prompt],
            dimensions=dimensions,
            max_tokens=max_tokens,
            pooling=str(pooling.pooling_mode),
            # The mean of its tokens is what makes a chunk's vector; other poolings have one token to look at.
            late_chunking=pooling.pooling_mode == "mean" and pooling.include_prompt,
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            batching=self._encoder.batching,
            architecture=type(transformer).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Sentence vectors, not normalised."""
        return {Kind.DENSE: self._pooled(self._encoder(sequences), sequences)}

    def _pooled(self, hidden: Hidden, sequences: Sequences) -> Tensor:
        """The vectors of token states, not normalised."""
        if sequences.chunk_lengths is not None:
            hidden = hidden.in_chunks(sequences.chunk_lengths)
        if sequences.skip is None:
            return self._of_states(hidden)
        # sentence-transformers takes one prompt length for a batch; here each sequence has its own.
        groups = [np.flatnonzero(sequences.skip == length) for length in np.unique(sequences.skip)]
        vectors = [
            self._of_states(hidden.only(group, sequences.lengths), prompt_length=int(sequences.skip[group[0]]))
            for group in groups
        ]
        return torch.cat(vectors)[upload(np.argsort(np.concatenate(groups)), hidden.states.device)]

    def _of_states(self, hidden: Hidden, *, prompt_length: int = 0) -> Tensor:
        """Vectors, shape (sequences, dimensions), of token states without the first `prompt_length` of each sequence."""
        features = {**hidden.features(), "prompt_length": prompt_length}
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in self._tail:
            features = module(features)
        return cast("Tensor", features["sentence_embedding"])[:, : self._truncate_dim]

    def _width(self, config: ModelConfig) -> int:
        """Length of its vectors: that of one, since what `1_Pooling/config.json` says of it nothing holds true."""
        one = Sequences(np.array([_ANY_TOKEN], np.int32), np.array([1], np.int32))
        try:
            with torch.inference_mode():
                return self._pooled(self._encoder(one), one).shape[1]
        except RuntimeError as err:
            raise ConfigurationError(
                f"model {config.name}: the modules of its modules.json do not fit each other: {first_line(err)}"
            ) from err


def _unread(module: Any) -> str:
    """Why a module that is no transformer cannot read texts here."""
    if isinstance(module, Router):
        ways = ", ".join(module.sub_modules)
        return (
            f"its modules.json begins with a Router (or Asym), which has modules of their own for {ways}; dense models "
            "have one for all texts here: save each way as a model of its own (docs/models.md has the line)"
        )
    return f"module {type(module).__name__} of its modules.json does not read texts here; a Transformer does"
