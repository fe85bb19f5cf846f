"""Late interaction: a vector for each token, and documents scored by MaxSim (ColBERT: Khattab and Zaharia 2020).

sentence-transformers' `MultiVectorEncoder` loads and configures them, in its own layout, PyLate's and Stanford's. Queries
and documents have markers, lengths and masks of their own; queries may be filled up with expansion tokens.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import LayerNorm, Normalize

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.encoder import Encoder
from workers.family import Family, Outputs, library_options
from workers.input_format import InputFormat
from workers.packed import longest_input
from workers.prompts import unstated_prompts
from workers.rows import Rows
from workers.sentence_files import read_json
from workers.sequences import Sequences
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json
from workers.weights import architecture

#: Modules that a folder for late interaction lists; what its `config_sentence_transformers.json` calls it, PyLate's up to
#: version 3 last; and a setting that only PyLate's have.
_MODULES = ("MultiVectorMask", "pylate.models.")
_MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")
_PYLATE = "query_prefix"
#: What may be done to each token's vector by itself.
_TAIL_MODULES = (Dense, LayerNorm, Normalize)


class LateInteraction:
    """One loaded model."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        model = MultiVectorEncoder(str(folder), **library_options(device, dtype)).eval()
        transformer = model[0]
        modules = list(model)[1:]
        mask = next((module for module in modules if isinstance(module, MultiVectorMask)), None)
        tokenizer = model.tokenizer
        tail = [module for module in modules if module is not mask]
        known = mask is not None and not mask.keep_only_token_ids and all(isinstance(m, _TAIL_MODULES) for m in tail)
        if mask is None or not known:
            raise ConfigurationError(f"model {config.name}: this kind of late-interaction model is not supported")
        self._device = device
        self.base_model = transformer.model
        self._encoder = Encoder(self.base_model, tokenizer, device)
        self._tail = [module.float() for module in tail]
        words = {word: tokenizer.convert_tokens_to_ids(word) for word in mask.skiplist_words}
        unknown, unknown_word = tokenizer.unk_token_id, tokenizer.unk_token
        # A word that the vocabulary does not have would skip all that it does not have.
        self._skipped = np.array([t for word, t in words.items() if t != unknown or word == unknown_word], np.int32)
        self._skips_queries = "query" in mask.skiplist_tasks
        self._skips_documents = "document" in mask.skiplist_tasks
        expansion = transformer.query_expansion or {}
        self._hides_expansion = bool(expansion) and not expansion.get("attend", False)
        self._expansion_token: int | None = _expansion_token(tokenizer, expansion) if expansion else None
        if self._hides_expansion and not self._encoder.packed:
            raise ConfigurationError(f"model {config.name}: query expansion needs a model type that runs packed")
        if self._hides_expansion and tokenizer("x")["input_ids"][-1] == self._expansion_token:
            raise ConfigurationError(
                f"model {config.name}: query expansion needs another token than the last of each text"
            )
        call = TokenizerCall.of(config.name, tokenizer, transformer.processing_kwargs)
        if call.max_length and expansion:
            raise ConfigurationError(
                f"model {config.name}: max_length of its processing_kwargs and query expansion do not go together"
            )
        max_tokens = longest_input(self.base_model, call.max_length or int(model.max_seq_length))
        filled = int(expansion.get("length") or 0)
        # `fixed` cuts queries there too; `min` lets a query's own limit be no lower.
        fixed = expansion.get("strategy") == "fixed"
        query_most = filled if fixed else call.limit(transformer.query_length, max_tokens)
        if query_most:
            query_most = min(max(query_most, filled), max_tokens)
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=max_tokens,
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            prompts=dict(model.prompts),
            unstated_prompts=unstated_prompts(folder, model.prompts),
            default_input_type="document",
            query_max_tokens=query_most or None,
            document_max_tokens=call.limit(transformer.document_length, max_tokens),
            expansion_token=self._expansion_token,
            expansion_tokens=min(filled, max_tokens),
        )
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.EMBED, Operation.RERANK],
            model_type="embedding",
            kinds=[Kind.MULTIVECTOR],
            scoring="mean_maxsim" if model.similarity_fn_name == "meanmaxsim" else "maxsim",
            dimensions=model.get_embedding_dimension(),
            prompts=[name for name, prompt in model.prompts.items() if prompt],
            max_tokens=max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            batching=self._encoder.batching,
            architecture=type(self.base_model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """A vector for each token that takes part in the scoring."""
        lengths = sequences.lengths.astype(np.int64)
        of_query = np.zeros(len(lengths), bool) if sequences.is_query is None else sequences.is_query
        in_query = np.repeat(of_query, lengths)
        visible = ~(in_query & self._expansion(sequences)) if self._hides_expansion and of_query.any() else None
        hidden = self._encoder(sequences, visible=visible)
        features = {**hidden.features(), "token_embeddings": hidden.states.float()[None]}
        for module in self._tail:
            features = module(features)
        skipped = np.isin(sequences.ids, self._skipped)
        keep = ~(skipped & np.where(in_query, self._skips_queries, self._skips_documents))
        vectors = features["token_embeddings"][0][torch.from_numpy(keep).to(self._device)]
        owners = np.repeat(np.arange(len(lengths)), lengths)[keep]
        counts = np.bincount(owners, minlength=len(lengths)).astype(np.int32)
        return {Kind.MULTIVECTOR: Rows(values=vectors.float().cpu().numpy(), counts=counts)}

    def _expansion(self, sequences: Sequences) -> npt.NDArray[np.bool_]:
        """Which tokens stand at the end of a sequence and are expansion tokens, shape (total,)."""
        is_filler = sequences.ids == self._expansion_token
        ends = np.cumsum(sequences.lengths.astype(np.int64))
        trailing = np.zeros(len(is_filler), bool)
        for end, length in zip(ends, sequences.lengths, strict=True):
            run = is_filler[end - length : end][::-1]
            trailing[end - (len(run) if run.all() else int(np.argmin(run))) : end] = True
        return trailing


def _expansion_token(tokenizer: Any, expansion: Mapping[str, Any]) -> int:
    """The configured token, else the mask token, else the end-of-text token, as the library falls back."""
    if expansion.get("token") is not None:
        return int(tokenizer.convert_tokens_to_ids(expansion["token"]))
    return int(tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id)


class LateInteractionFamily:
    """Folders of sentence-transformers' multi-vector encoders, of PyLate, and of Stanford's ColBERT."""

    name = "late_interaction"
    priority = 20

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Told by the class that Stanford's code writes, by the folder's description of itself, or by its modules."""
        if "HF_ColBERT" in (config.get("architectures") or []):
            return True
        settings = read_json(folder / "config_sentence_transformers.json", {})
        if settings.get("model_type") in _MODEL_TYPES or _PYLATE in settings:
            return True
        types = [str(module.get("type", "")) for module in read_json(folder / "modules.json", [])]
        return any(mark in kind for kind in types for mark in _MODULES)

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> LateInteraction:
        """Load a multi-vector encoder."""
        if not self.serves(folder, architecture(folder)):
            raise ConfigurationError(
                f"model {config.name}: family late_interaction needs a multi-vector encoder's modules.json"
            )
        return LateInteraction(config, folder, device, dtype)


PLUGIN: Family = LateInteractionFamily()
