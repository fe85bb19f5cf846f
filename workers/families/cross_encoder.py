"""Cross-encoders: sequence classifiers with one label score a (query, document) pair."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.encoder import Encoder, Hidden
from workers.family import Family
from workers.input_format import InputFormat
from workers.packed import longest_input
from workers.padded import pad
from workers.rows import BatchRows, Rows
from workers.sequences import Sequences

#: Head on the token states to logits, shape (count, labels), by model type. The wrappers themselves read `[:, 0]` of the
#: whole row, which in a packed batch is the first sequence only.
_HEADS: dict[str, Callable[[Any, Hidden], Tensor]] = {
    "bert": lambda model, hidden: model.classifier(model.bert.pooler(hidden.first()[:, None])),
    "roberta": lambda model, hidden: model.classifier(hidden.first()[:, None]),
    "xlm-roberta": lambda model, hidden: model.classifier(hidden.first()[:, None]),
    "distilbert": lambda model, hidden: model.classifier(torch.relu(model.pre_classifier(hidden.first()))),
}


class CrossEncoderModel:
    """One loaded reranker. Its rows are logits; the worker applies the sigmoid."""

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
        base = self._model.base_model
        self._head = _HEADS.get(self._model.config.model_type)
        self._encoder = Encoder(base, tokenizer, device) if self._head is not None else None
        self._pad_id = tokenizer.pad_token_id or 0
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        max_tokens = longest_input(base, int(encoder.max_seq_length))
        self.input_format = InputFormat(
            tokenizer_json=tokenizer.backend_tokenizer.to_str(), max_tokens=max_tokens, pairs="tokenizer"
        )
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.RERANK],
            model_type="reranker",
            scoring="logit",
            max_tokens=max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder is not None and self._encoder.packed,
            max_batch_tokens=1,
            tokens_per_s=0.0,
            architecture=type(self._model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> BatchRows:  # noqa: ARG002 - it has one kind
        """Logits, shape (pairs, 1)."""
        if self._encoder is not None and self._head is not None:
            logits = self._head(self._model, self._encoder(sequences))
        else:
            inputs = pad(sequences, self._pad_id, self._device, types=self._takes_types)
            logits = self._model(**inputs).logits
        return {Kind.SCORES: Rows(logits.float().cpu().numpy())}


class CrossEncoderFamily:
    """Every `…ForSequenceClassification`; those without a packed head run padded."""

    name = "cross_encoder"
    priority = 0

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """A sequence classifier."""
        return str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> CrossEncoderModel:
        """Load a reranker."""
        return CrossEncoderModel(config, folder, device, dtype)


PLUGIN: Family = CrossEncoderFamily()
