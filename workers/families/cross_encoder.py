"""Cross-encoders: sequence classifiers with one label score a (query, document) pair."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from workers.family import Family
from workers.packed import ATTENTION, collate, learned_position_padding, longest_input
from workers.padded import pad
from workers.sequences import Sequences

#: Head on the first token's state, shape (count, hidden) to logits (count, 1), by model type. The wrappers themselves
#: read `[:, 0]` of the whole row, which in a packed batch is the first sequence only.
_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, first: model.classifier(model.bert.pooler(first[:, None])),
    "roberta": lambda model, first: model.classifier(first[:, None]),
    "xlm-roberta": lambda model, first: model.classifier(first[:, None]),
    "distilbert": lambda model, first: model.classifier(torch.relu(model.pre_classifier(first))),
}


class CrossEncoderModel:
    """One loaded reranker. Its rows are logits; the worker applies the sigmoid."""

    takes_pairs = True

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        encoder = CrossEncoder(
            str(folder),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        ).eval()
        self._device = device
        self._model = encoder[0].model
        labels = self._model.config.num_labels
        tokenizer = encoder[0].tokenizer
        if labels != 1:
            raise ConfigurationError(f"model {config.name} has {labels} labels; a reranker has exactly one")
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(f"model {config.name} has no fast tokenizer (tokenizer.json)")
        model_type = self._model.config.model_type
        self._head = _HEADS.get(model_type)
        self._base = self._model.base_model
        if self._head is not None:
            self._base.set_attn_implementation(ATTENTION)
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        self._padding_idx = learned_position_padding(self._base)
        self._pad_id = tokenizer.pad_token_id or 0
        self.tokenizer_json: str = tokenizer.backend_tokenizer.to_str()
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.RERANK],
            model_type="reranker",
            max_tokens=longest_input(self._base, int(encoder.max_seq_length)),
            dtype=str(dtype).removeprefix("torch."),
            packed=self._head is not None,
            max_batch_tokens=1,
            tokens_per_s=0.0,
            architecture=type(self._model).__name__,
        )

    def forward(self, sequences: Sequences) -> Tensor:
        """Logits, shape (pairs, 1)."""
        if self._head is None:
            inputs = pad(sequences, self._pad_id, self._device, types=self._takes_types)
            logits: Tensor = self._model(**inputs).logits
        else:
            batch = collate(sequences, self._device, padding_idx=self._padding_idx)
            packed: dict[str, Any] = {
                "input_ids": batch.input_ids,
                "position_ids": batch.position_ids,
                **batch.attention_arguments(),
            }
            if self._takes_types:
                packed["token_type_ids"] = batch.token_type_ids
            hidden = self._base(**packed).last_hidden_state[0]
            logits = self._head(self._model, hidden[batch.cu_seq_lens[:-1].long()])
        return logits.float().cpu()


class CrossEncoderFamily:
    """Every `…ForSequenceClassification`; those without a packed head run padded."""

    name = "cross_encoder"

    def serves(self, architecture: str) -> bool:
        """A sequence classifier."""
        return architecture.endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> CrossEncoderModel:
        """Load a reranker."""
        return CrossEncoderModel(config, folder, device, dtype)


PLUGIN: Family = CrossEncoderFamily()
