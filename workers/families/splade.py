"""Learned sparse embeddings from a masked language model: SPLADE (Formal et al. 2021, arXiv 2109.10086) and its relatives.

sentence-transformers' `SparseEncoder` loads and configures them. Vocabulary scores of all tokens of a batch never exist at
once: each sequence's are made, pooled and dropped in turn, in chunks of tokens.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.encoder import Encoder
from workers.family import Family
from workers.input_format import InputFormat
from workers.packed import longest_input
from workers.rows import BatchRows, Rows
from workers.sequences import Sequences

#: Most tokens whose vocabulary scores exist at the same time: 250,000 entries of float32 for each are 64 MB.
_CHUNK_TOKENS = 64

#: Scores of the vocabulary from token states, by model type: the second half of each class's own forward.
_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "bert": lambda model, states: model.cls(states),
    "camembert": lambda model, states: model.lm_head(states),
    "distilbert": lambda model, states: model.vocab_projector(
        model.vocab_layer_norm(model.activation(model.vocab_transform(states)))
    ),
    "modernbert": lambda model, states: model.decoder(model.head(states)),
    "roberta": lambda model, states: model.lm_head(states),
    "xlm-roberta": lambda model, states: model.lm_head(states),
}


class Splade:
    """One loaded model."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        model = SparseEncoder(
            str(folder),
            device=str(device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        ).eval()
        modules = list(model)
        tokenizer = model.tokenizer
        masked: Any = getattr(modules[0], "model", None)
        head = _HEADS.get(masked.config.model_type) if masked is not None else None
        if head is None or len(modules) != 2 or not isinstance(modules[1], SpladePooling):
            raise ConfigurationError(f"model {config.name}: this kind of sparse encoder is not supported")
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(f"model {config.name} has no fast tokenizer (tokenizer.json)")
        pooling = modules[1]
        self._masked, self._head = masked, head
        self.base_model = masked.base_model
        self._encoder = Encoder(self.base_model, tokenizer, device, trace_lone=True)
        self._sums = pooling.pooling_strategy == "sum"
        self._twice = pooling.activation_function == "log1p_relu"
        self._most_entries: int | None = model.max_active_dims
        max_tokens = longest_input(self.base_model, int(model.max_seq_length))
        self.input_format = InputFormat(
            tokenizer_json=tokenizer.backend_tokenizer.to_str(),
            max_tokens=max_tokens,
            prompts=dict(model.prompts),
            default_prompt_name=model.default_prompt_name,
        )
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.EMBED, Operation.RERANK],
            model_type="embedding",
            kinds=[Kind.SPARSE],
            scoring="dot",
            prompts=[name for name, prompt in model.prompts.items() if prompt],
            max_tokens=max_tokens,
            pooling=f"splade_{pooling.pooling_strategy}",
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            max_batch_tokens=1,
            tokens_per_s=0.0,
            architecture=type(masked).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> BatchRows:  # noqa: ARG002 - it has one kind
        """Entries of the vocabulary with a positive weight, in rising order, for each sequence."""
        states = self._encoder(sequences).states
        values: list[Tensor] = []
        indices: list[Tensor] = []
        for of_sequence in torch.split(states, sequences.lengths.tolist()):
            weights = self._pooled(of_sequence)
            entries = weights.nonzero()[:, 0]
            if self._most_entries is not None and len(entries) > self._most_entries:
                entries = weights.topk(self._most_entries).indices.sort().values
            indices.append(entries)
            values.append(weights[entries])
        counts = torch.tensor([len(entries) for entries in indices], dtype=torch.int32)
        return {
            Kind.SPARSE: Rows(
                values=torch.cat(values)[:, None].cpu().numpy(),
                counts=counts.numpy(),
                indices=torch.cat(indices).int().cpu().numpy(),
            )
        }

    def _pooled(self, states: Tensor) -> Tensor:
        """log(1 + ReLU(scores)), pooled over the tokens: shape (tokens, hidden) to (vocabulary,), float32."""
        pooled: Tensor | None = None
        for chunk in torch.split(states, _CHUNK_TOKENS):
            weights = self._head(self._masked, chunk).float().relu_().log1p_()
            if self._twice:
                weights.log1p_()
            part = weights.sum(dim=0) if self._sums else weights.amax(dim=0)
            pooled = part if pooled is None else (pooled + part if self._sums else torch.maximum(pooled, part))
        if pooled is None:
            raise ValueError("a sequence has at least one token")
        return pooled


class SpladeFamily:
    """Folders of sentence-transformers' sparse encoders, and bare masked language models."""

    name = "splade"
    priority = 5

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """A `SpladePooling` among the modules; without a list of modules, a `…ForMaskedLM`."""
        modules = folder / "modules.json"
        if modules.exists():
            return any("SpladePooling" in module.get("type", "") for module in json.loads(modules.read_text()))
        return str((config.get("architectures") or [""])[0]).endswith("ForMaskedLM")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> Splade:
        """Load a sparse encoder."""
        return Splade(config, folder, device, dtype)


PLUGIN: Family = SpladeFamily()
