"""Sequence classifiers: with one label they score a (query, document) pair, with several they name what a text is.

sentence-transformers' `CrossEncoder` loads them. Heads run in float32 whatever the trunk's dtype, since close scores must
not become ties (half-precision logits make them).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
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


def _on_first(model: Any, hidden: Hidden) -> Tensor:
    """Heads that read `[:, 0]` of what they are given."""
    logits: Tensor = model.classifier(hidden.first()[:, None])
    return logits


def _after_pooler(model: Any, hidden: Hidden) -> Tensor:
    """A linear layer on the base model's pooler, which reads `[:, 0]` too."""
    logits: Tensor = model.classifier(model.base_model.pooler(hidden.first()[:, None]))
    return logits


def _albert(model: Any, hidden: Hidden) -> Tensor:
    pooled = model.albert.pooler_activation(model.albert.pooler(hidden.first()))
    logits: Tensor = model.classifier(pooled)
    return logits


def _modernbert(model: Any, hidden: Hidden) -> Tensor:
    pooled = hidden.first() if model.config.classifier_pooling == "cls" else hidden.mean()
    logits: Tensor = model.classifier(model.head(pooled))
    return logits


def _eurobert(model: Any, hidden: Hidden) -> Tensor:
    def head(states: Tensor) -> Tensor:
        logits: Tensor = model.classifier(model.activation(model.dense(states)))
        return logits

    if model.config.classifier_pooling == "late":
        return replace(hidden, states=head(hidden.states)).mean()
    return head(hidden.first() if model.config.classifier_pooling == "bos" else hidden.mean())


#: Head from token states to logits, shape (count, labels), by model type. The wrappers themselves read `[:, 0]` or the mean
#: of the whole row, which in a packed batch is the first sequence, or a mixture of all.
_HEADS: dict[str, Callable[[Any, Hidden], Tensor]] = {
    "albert": _albert,
    "bert": _after_pooler,
    "camembert": _on_first,
    "data2vec-text": _on_first,
    "distilbert": lambda model, hidden: model.classifier(torch.relu(model.pre_classifier(hidden.first()))),
    "electra": _on_first,
    "ernie": _after_pooler,
    "eurobert": _eurobert,
    "jina_embeddings_v3": _on_first,
    "modernbert": _modernbert,
    "mpnet": _on_first,
    "nomic_bert": _after_pooler,
    "roberta": _on_first,
    "xlm-roberta": _on_first,
    "xlm-roberta-xl": _on_first,
}
#: Names of the modules that heads are made of.
_HEAD_MODULES = ("classifier", "pre_classifier", "head", "dense", "pooler")


class SequenceClassifier:
    """One loaded classifier. Its rows are logits; the worker turns them into scores."""

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
        self.base_model = self._model.base_model
        tokenizer = encoder[0].tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(f"model {config.name} has no fast tokenizer (tokenizer.json)")
        described = self._model.config
        self._head = _HEADS.get(described.model_type)
        self._encoder: Encoder | None = None
        if self._head is not None:
            self._encoder = Encoder(self.base_model, tokenizer, device)
            for name in _HEAD_MODULES:
                for owner in (self._model, self.base_model):
                    if (module := getattr(owner, name, None)) is not None:
                        module.float()
        self._pad_id = tokenizer.pad_token_id or 0
        self._takes_types = "token_type_ids" in tokenizer.model_input_names
        max_tokens = longest_input(self.base_model, int(encoder.max_seq_length))
        self.input_format = InputFormat(
            tokenizer_json=tokenizer.backend_tokenizer.to_str(), max_tokens=max_tokens, pairs="tokenizer"
        )
        reranks = described.num_labels == 1
        several = described.problem_type != "multi_label_classification" and not reranks
        self.card = ModelCard(
            name=config.name,
            # A reranker classifies too, as it does for TEI: its one label gets the score of a text or pair.
            operations=[Operation.RERANK, Operation.CLASSIFY] if reranks else [Operation.CLASSIFY],
            model_type="reranker" if reranks else "classifier",
            scoring="logit",
            activation="softmax" if several else "sigmoid",
            labels=[str(described.id2label[index]) for index in range(described.num_labels)],
            max_tokens=max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder is not None and self._encoder.packed,
            max_batch_tokens=1,
            tokens_per_s=0.0,
            architecture=type(self._model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> BatchRows:  # noqa: ARG002 - it has one kind
        """Logits, shape (sequences, labels)."""
        if self._encoder is not None and self._head is not None:
            hidden = self._encoder(sequences)
            logits = self._head(self._model, replace(hidden, states=hidden.states.float()))
        else:
            inputs = pad(sequences, self._pad_id, self._device, types=self._takes_types)
            logits = self._model(**inputs).logits
        return {Kind.SCORES: Rows(logits.float().cpu().numpy())}


class SequenceClassificationFamily:
    """Every `…ForSequenceClassification`; those without a packed head run padded."""

    name = "sequence_classification"
    priority = 0

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """A sequence classifier."""
        return str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> SequenceClassifier:
        """Load a classifier."""
        return SequenceClassifier(config, folder, device, dtype)


PLUGIN: Family = SequenceClassificationFamily()
