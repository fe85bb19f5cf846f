"""Sequence classifiers: with one label they score a (query, document) pair, with several they name what a text is.

sentence-transformers' `CrossEncoder` loads them: bare `…ForSequenceClassification` folders, and its own folders, in which
`Pooling` and `Dense` modules after an encoder may make the scores, and a chat template the input. Heads run in float32
whatever the trunk's dtype, since close scores must not become ties (half-precision logits make them).

Folders name an activation for their scores: `activation_fn` in `config_sentence_transformers.json` or in `config.json` under
`sentence_transformers`, before that `sbert_ce_default_activation_function`. `CrossEncoder.predict` applies what they name;
here a score is between 0 and 1 unless the request asks for `raw_scores`, which are the logits. So

- one label is the sigmoid of its logit, whatever is named, as it is for TEI. Identity, which the ms-marco MiniLM models
  name, says that they were trained on logits, not that nobody wants them between 0 and 1; the order is the same;
- several labels have the sigmoid or the softmax that is named. Identity, which is also what sentence-transformers writes
  when nobody chose, and any other that does not end between 0 and 1, leave it to `problem_type`: the sigmoid for
  `multi_label_classification`, else the softmax.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.chat_template import UnsupportedTemplate, cross_encoder_format, is_templated
from workers.encoder import Encoder, Hidden
from workers.family import Family, Outputs, library_options
from workers.input_format import InputFormat
from workers.packed import LONGEST_UNSTATED, longest_input
from workers.rectangles import Rectangles
from workers.sentence_files import SentenceFiles
from workers.sequences import Sequences


def _on_first(model: Any, hidden: Hidden) -> Tensor:
    """Heads that read `[:, 0]` of what they are given."""
    logits: Tensor = model.classifier(hidden.first()[:, None])
    return logits


def _after_pooler(model: Any, hidden: Hidden) -> Tensor:
    """A linear layer on the base model's pooler, which reads `[:, 0]` too."""
    logits: Tensor = model.classifier(model.pooler(hidden.first()[:, None]))
    return logits


def _albert(model: Any, hidden: Hidden) -> Tensor:
    pooled = model.albert.pooler_activation(model.pooler(hidden.first()))
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


def _on_last(model: Any, hidden: Hidden) -> Tensor:
    """Decoders: a linear layer on the last token that is not padding, which an end of text at the end may be too."""
    starts, at = hidden.cu_seq_lens[:-1].long(), torch.arange(len(hidden.input_ids), device=hidden.input_ids.device)
    pad_id = model.config.pad_token_id
    candidates = at if pad_id is None else torch.where(hidden.input_ids != pad_id, at, 0)
    last = starts.scatter_reduce(0, hidden.seq_idx, candidates, "amax")
    logits: Tensor = model.score(hidden.states[last])
    return logits


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
    "gemma": _on_last,
    "gemma2": _on_last,
    "gemma3_text": _on_last,
    "jina_embeddings_v3": _on_first,
    "llama": _on_last,
    "mistral": _on_last,
    "modernbert": _modernbert,
    "mpnet": _on_first,
    "nomic_bert": _after_pooler,
    "qwen2": _on_last,
    "qwen3": _on_last,
    "roberta": _on_first,
    "xlm-roberta": _on_first,
    "xlm-roberta-xl": _on_first,
}
#: What may follow an encoder and make the scores.
_TAIL_MODULES = (Dense, Normalize, Pooling)
#: Names of the modules that heads are made of.
_HEAD_MODULES = ("classifier", "pre_classifier", "head", "dense", "pooler", "score")


class SequenceClassifier:
    """One loaded classifier. Its rows are logits; the worker turns them into scores."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        encoder = CrossEncoder(str(folder), **library_options(device, dtype)).eval()
        transformer, *tail = encoder
        self._model = transformer.model
        self.base_model = self._model.base_model
        tokenizer = transformer.tokenizer
        if not all(isinstance(module, _TAIL_MODULES) and getattr(module, "include_prompt", True) for module in tail):
            raise ConfigurationError(f"model {config.name}: this kind of cross-encoder is not supported")
        self._tail = [module.float() for module in tail]
        described = self._model.config
        self._head = _HEADS.get(described.model_type)
        #: An encoder-decoder's head reads its decoder's state at the last one.
        self.end_of_text: int | None = described.eos_token_id if described.is_encoder_decoder else None
        if self._head is not None and not tail:
            if getattr(self.base_model, "pooler", None) is not None:
                # The trunk would run it too, on the packed row's first token and in the trunk's number format.
                self._model.pooler, self.base_model.pooler = self.base_model.pooler, None
            for name in _HEAD_MODULES:
                if (module := getattr(self._model, name, None)) is not None:
                    module.float()
        #: What gives token states, or logits where the head is the model's own.
        self._trunk: Encoder | Rectangles
        if self._head is not None or tail:
            self._trunk = Encoder(self.base_model, tokenizer, device)
        else:
            self._trunk = Rectangles(
                lambda inputs: self._model(**inputs).logits,
                device,
                pad_id=tokenizer.pad_token_id or 0,
                types="token_type_ids" in tokenizer.model_input_names,
                by_token=False,
                longest=longest_input(self.base_model, LONGEST_UNSTATED),
                end=self.end_of_text,
            )
        count = encoder.num_labels
        names = described.id2label if len(described.id2label) == count else {}
        self.input_format = _input_format(config, encoder, declared=(folder / "modules.json").exists())
        reranks = count == 1
        # A reranker classifies too, as it does for TEI: its one label gets the score of a text or pair. A template for a
        # query and a document, however, has no form for a single text.
        operations = [Operation.RERANK] if reranks else [Operation.CLASSIFY]
        if reranks and self.input_format.pairs == "tokenizer":
            operations.append(Operation.CLASSIFY)
        self.card = ModelCard(
            name=config.name,
            operations=operations,
            model_type="reranker" if reranks else "classifier",
            scoring="logit",
            activation=_activation(encoder),
            labels=[str(names.get(index, f"LABEL_{index}")) for index in range(count)],
            prompts=[name for name, prompt in self.input_format.prompts.items() if prompt],
            max_tokens=self.input_format.max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=isinstance(self._trunk, Encoder) and self._trunk.packed,
            batching=self._trunk.batching,
            architecture=type(self._model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Logits, shape (sequences, labels)."""
        if isinstance(self._trunk, Rectangles):
            return {Kind.SCORES: self._trunk(sequences)}
        hidden = self._trunk(sequences)
        hidden = replace(hidden, states=hidden.states.float())
        if self._head is not None and not self._tail:
            return {Kind.SCORES: self._head(self._model, hidden)}
        features = hidden.features()
        for module in self._tail:
            features = module(features)
        return {Kind.SCORES: features["scores"]}


def _activation(encoder: Any) -> Literal["sigmoid", "softmax"]:
    """What makes scores between 0 and 1 of the logits."""
    if encoder.num_labels == 1 or isinstance(encoder.activation_fn, torch.nn.Sigmoid):
        return "sigmoid"
    if isinstance(encoder.activation_fn, torch.nn.Softmax):
        return "softmax"
    return "sigmoid" if encoder[0].model.config.problem_type == "multi_label_classification" else "softmax"


def _input_format(config: ModelConfig, encoder: Any, *, declared: bool) -> InputFormat:
    """As the folder's modules have it.

    A bare folder of a language model that was made a classifier may have kept a chat template for conversations: without
    a place for query and document, or with several labels, its texts are taken as they are, as transformers takes them.
    """
    templated, several = is_templated(encoder), encoder.num_labels > 1
    if templated and several and declared:
        raise ConfigurationError(f"model {config.name}: classifiers with a chat template are not supported")
    try:
        return cross_encoder_format(config.name, encoder, templated=templated and not several)
    except UnsupportedTemplate as err:
        if declared:
            raise ConfigurationError(
                f"model {config.name}: its chat template is not one for pairs here: {err}"
            ) from err
    return cross_encoder_format(config.name, encoder, templated=False)


class SequenceClassificationFamily:
    """Every `…ForSequenceClassification`, those without a packed head padded, and what else is a `CrossEncoder`."""

    name = "sequence_classification"
    priority = 1

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """A folder that says so; a sequence classifier, unless sentence-transformers made something else of it."""
        files = SentenceFiles.of(folder)
        if files.settings.get("model_type") == "CrossEncoder":
            return True
        architecture = str((config.get("architectures") or [""])[0])
        return not files.modules and architecture.endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> SequenceClassifier:
        """Load a classifier."""
        return SequenceClassifier(config, folder, device, dtype)


PLUGIN: Family = SequenceClassificationFamily()
