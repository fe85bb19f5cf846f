"""Rerankers made of T5: monoT5 (Nogueira et al. 2020), its multilingual kin of mMARCO (Bonifacio et al. 2021), InRanker.

The encoder reads `Query: … Document: … Relevant:`, and the score is how much likelier the decoder's first word is "true"
than "false" (mT5: "yes" than "no"), as pygaggle's `MonoT5` has it: the softmax over two words is the sigmoid of their
difference.

The encoder runs packed; the decoder makes one step, and of the vocabulary only the rows of the two words are multiplied, in
float32. Where the longest input is reached pygaggle cuts the end off, `Relevant:` with it; here the document alone is cut.

A T5 folder does not say that it reranks: its name does, or `family: monot5` in `models.yaml`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM, AutoModelForTextEncoding, AutoTokenizer

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.encoder import Encoder, Hidden
from workers.family import Family, Outputs
from workers.folder_name import says
from workers.input_format import InputFormat
from workers.packed import upload
from workers.padded import similar_lengths
from workers.sequences import Int32Array, Sequences
from workers.tokenizer_call import fast_tokenizer_json

_TEMPLATE = "Query: {query} Document: {document} Relevant:"
#: The words against and for, as pieces of the vocabulary, by what is in the names of published models (pygaggle's table, and
#: InRanker's card). Others of like names answer otherwise (RankT5), compare documents (duoT5) or write queries (doc2query).
_PUBLISHED = {
    "monot5": ("▁false", "▁true"),
    "inranker": ("▁false", "▁true"),
    "mt5-base-mmarco": ("▁no", "▁yes"),
    "mt5-base-en-msmarco": ("▁no", "▁yes"),
    "mt5-base-en-pt-msmarco": ("▁no", "▁yes"),
    "mt5-3b-mmarco": ("▁", "▁true"),
    "mt5-13b-mmarco": ("▁", "▁true"),
    "ptt5-base-pt-msmarco": ("▁não", "▁sim"),
    "ptt5-base-en-pt-msmarco": ("▁não", "▁sim"),
}
#: The same of models with other names, which `models.yaml` says are of this family, by model type.
_WORDS = {"t5": ("▁false", "▁true"), "mt5": ("▁no", "▁yes")}
#: Longest input in tokens where the folder states none: they were trained on as many.
_MAX_TOKENS = 512
_UNSTATED = 10**9


class MonoT5:
    """One loaded reranker. Its rows are logits; the worker applies the sigmoid."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if tokenizer.split_special_tokens:
            raise ConfigurationError(f"model {config.name}: split_special_tokens would split its end of text")
        options: dict[str, Any] = {"local_files_only": True, "dtype": dtype, "use_safetensors": True}
        self.base_model = model = AutoModelForSeq2SeqLM.from_pretrained(folder, **options).to(device).eval()
        model.lm_head = _Answer(model.lm_head, _word_ids(config, folder, tokenizer, model.config.model_type))
        with torch.device("meta"):  # it gets the weights that are there
            encoder = AutoModelForTextEncoding.from_config(model.config)
        encoder.shared, encoder.encoder = model.shared, model.encoder
        self._encoder = Encoder(encoder.eval(), tokenizer, device)
        self._device = device
        self._start = int(model.config.decoder_start_token_id)
        stated = int(tokenizer.model_max_length)
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=_MAX_TOKENS if stated >= _UNSTATED else stated,
            pairs="template",
            template=[_TEMPLATE, tokenizer.eos_token],
            keeps_closing=True,
        )
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.RERANK],
            model_type="reranker",
            scoring="logit",
            max_tokens=self.input_format.max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            batching=self._encoder.batching,
            architecture=type(model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Logits, shape (pairs, 1)."""
        hidden = self._encoder(sequences)
        order, groups = similar_lengths(sequences.lengths, self._device)
        logits = torch.cat([self._answers(hidden, sequences.lengths, order[group]) for group in groups])
        logits = logits[upload(np.argsort(order), self._device)]
        return {Kind.SCORES: logits[:, 1:] - logits[:, :1]}

    def _answers(self, hidden: Hidden, lengths: Int32Array, which: npt.NDArray[np.int64]) -> Tensor:
        """Logits of the words against and for, shape (pairs, 2), of sequences of similar lengths."""
        states = hidden.only(which, lengths).states
        chosen = lengths[which]
        mask = upload(np.arange(chosen.max()) < chosen[:, None], self._device)
        padded = states.new_zeros((*mask.shape, states.shape[1]))
        padded[mask] = states
        start = torch.full((len(which), 1), self._start, device=self._device)
        made = self.base_model(
            encoder_outputs=(padded,), attention_mask=mask.long(), decoder_input_ids=start, use_cache=False
        )
        logits: Tensor = made.logits[:, 0]
        return logits


class _Answer(nn.Module):
    """Two rows of an output layer, in float32."""

    def __init__(self, layer: nn.Linear, rows: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach()[rows].float(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        """Shape (pairs, 1, 2)."""
        return functional.linear(states.float(), self.weight)


def _words(folder: Path) -> tuple[str, str] | None:
    """The words of a published model; None for another one."""
    return next((words for name, words in _PUBLISHED.items() if says(folder, name)), None)


def _word_ids(config: ModelConfig, folder: Path, tokenizer: Any, model_type: str) -> list[int]:
    words = _words(folder) or _WORDS.get(model_type)
    if words is None:
        raise ConfigurationError(
            f"model {config.name}: no words that answer are known for {model_type}, only for {', '.join(_WORDS)}"
        )
    vocabulary = tokenizer.get_vocab()
    if missing := [word for word in words if word not in vocabulary]:
        raise ConfigurationError(
            f"model {config.name}: its vocabulary has no {missing[0]!r}, which monoT5 answers with"
        )
    return [int(vocabulary[word]) for word in words]


class MonoT5Family:
    """T5 and mT5 that answer whether a document is relevant."""

    name = "monot5"
    priority = 10

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """A whole T5 whose folder is called as those that rerank are."""
        architecture = str((config.get("architectures") or [""])[0])
        is_whole = config.get("model_type") in _WORDS and architecture.endswith("ForConditionalGeneration")
        return is_whole and not (folder / "modules.json").exists() and _words(folder) is not None

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> MonoT5:
        """Load a reranker."""
        return MonoT5(config, folder, device, dtype)


PLUGIN: Family = MonoT5Family()
