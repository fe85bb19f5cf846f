"""Dense embedding models, as sentence-transformers describes them.

It loads, configures and post-processes them (pooling, dense layers, maximum length); the batch and the attention are ours.

Final `Normalize` modules are left out: normalisation is asked for per request, and done in float32 by the worker.
"""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from workers.family import Family
from workers.lone import LoneSequence, trace_lone_sequence
from workers.packed import ATTENTION, PACKABLE, collate, learned_position_padding, longest_input
from workers.padded import pad
from workers.sequences import Sequences


class SentenceEmbedding:
    """One loaded embedding model."""

    takes_pairs = False

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        model = SentenceTransformer(
            str(folder),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        ).eval()
        self._device = device
        self._transformer = model[0].model
        self._tail = [module for module in list(model)[1:] if not isinstance(module, Normalize)]
        pooling = next((module for module in self._tail if isinstance(module, Pooling)), None)
        tokenizer = model.tokenizer
        if pooling is None or not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(f"model {config.name} is not a text embedding model with a fast tokenizer")
        self._packed = self._transformer.config.model_type in PACKABLE
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._padding_idx = learned_position_padding(self._transformer)
        self._lone: LoneSequence | None = None
        if self._packed:
            if device.type == "cpu":
                names = ["input_ids", "position_ids", *(["token_type_ids"] if self._takes_types else [])]
                first_position = 0 if self._padding_idx is None else self._padding_idx + 1
                self._lone = trace_lone_sequence(self._transformer, names, first_position=first_position)
            self._transformer.set_attn_implementation(ATTENTION)
        self._pad_id = tokenizer.pad_token_id or 0
        self.tokenizer_json: str = tokenizer.backend_tokenizer.to_str()
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.EMBED, Operation.RERANK],
            model_type="embedding",
            dimensions=model.get_embedding_dimension(),
            max_tokens=longest_input(self._transformer, int(model.max_seq_length)),
            pooling=str(pooling.pooling_mode),
            dtype=str(dtype).removeprefix("torch."),
            packed=self._packed,
            max_batch_tokens=1,
            tokens_per_s=0.0,
            architecture=type(self._transformer).__name__,
        )

    def forward(self, sequences: Sequences) -> torch.Tensor:
        """Sentence vectors, shape (sequences, dimensions), not normalised."""
        features = self._packed_features(sequences) if self._packed else self._padded_features(sequences)
        for module in self._tail:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return vectors.float().cpu()

    def _packed_features(self, sequences: Sequences) -> dict[str, Any]:
        batch = collate(sequences, self._device, padding_idx=self._padding_idx)
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "position_ids": batch.position_ids}
        if self._takes_types:
            inputs["token_type_ids"] = batch.token_type_ids
        if self._lone is not None and len(sequences.lengths) == 1:
            hidden = self._lone(inputs)
        else:
            hidden = self._transformer(**inputs, **batch.attention_arguments()).last_hidden_state
        return {
            "token_embeddings": hidden,
            "cu_seq_lens_q": batch.cu_seq_lens,
            "seq_idx": batch.seq_idx,
        }

    def _padded_features(self, sequences: Sequences) -> dict[str, Any]:
        inputs = pad(sequences, self._pad_id, self._device, types=self._takes_types)
        return {**inputs, "token_embeddings": self._transformer(**inputs).last_hidden_state}


class SentenceEmbeddingFamily:
    """Every encoder that sentence-transformers loads and that has no head of its own."""

    name = "sentence_embedding"

    def serves(self, architecture: str) -> bool:
        """Anything but a sequence classifier."""
        return not architecture.endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> SentenceEmbedding:
        """Load an embedding model."""
        return SentenceEmbedding(config, folder, device, dtype)


PLUGIN: Family = SentenceEmbeddingFamily()
