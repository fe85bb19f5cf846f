"""Learned sparse embeddings from a masked language model: SPLADE (Formal et al. 2021, arXiv 2109.10086) and its relatives.

sentence-transformers' `SparseEncoder` loads and configures them. Vocabulary scores of all tokens of a batch never exist at
once: each sequence's are made, pooled and dropped in turn, in chunks of tokens.

Inference-free models (Geng et al. 2024, arXiv 2411.04403) send only documents through the language model: a `Router` takes
queries to a `SparseStaticEmbedding`, where each word of a query has the weight that the folder gives it. A text that is
called neither goes the router's default way. A query is no longer than a document may be.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import Router, SparseStaticEmbedding, SpladePooling
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.encoder import Encoder
from workers.family import Family, Outputs, library_options
from workers.input_format import InputFormat
from workers.packed import longest_input
from workers.prompts import unstated_prompts
from workers.rows import Piece, Rows
from workers.sentence_files import SentenceFiles, read_json
from workers.sequences import Sequences
from workers.similarity import operations_of, scoring_of
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

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
        model = SparseEncoder(str(folder), **library_options(device, dtype)).eval()
        of_queries, of_documents, default_route = _routes(model)
        masked: Any = getattr(of_documents[0], "model", None)
        head = _HEADS.get(masked.config.model_type) if masked is not None else None
        if masked is not None and head is None:
            served = ", ".join(sorted(_HEADS))
            raise ConfigurationError(
                f"model {config.name}: {masked.config.model_type} makes no sparse vectors here; these types do: {served}"
            )
        if head is None or len(of_documents) != 2 or not isinstance(of_documents[1], SpladePooling):
            raise ConfigurationError(
                f"model {config.name}: a sparse encoder is a transformer and a SpladePooling here, and this one is "
                + ", ".join(type(module).__name__ for module in of_documents)
            )
        tokenizer, pooling = of_documents[0].tokenizer, of_documents[1]
        static = of_queries[0] if of_queries != of_documents else None
        if static is not None and (len(of_queries) > 1 or not isinstance(static, SparseStaticEmbedding)):
            raise ConfigurationError(f"model {config.name}: its queries go a way that is not supported")
        self._masked, self._head = masked, head
        self.base_model = masked.base_model
        self._encoder = Encoder(self.base_model, tokenizer, device, trace_lone=True)
        self._sums = pooling.pooling_strategy == "sum"
        self._twice = pooling.activation_function == "log1p_relu"
        self._most_entries: int | None = model.max_active_dims
        #: Weight of each word of a query, shape (vocabulary,), where queries see no transformer.
        self._static: npt.NDArray[np.float32] | None = None
        if static is not None:
            self._static = static.weight.detach().float().cpu().numpy()
        scoring = scoring_of(model.similarity_fn_name, unit=False)
        call = TokenizerCall.of(config.name, tokenizer, of_documents[0].processing_kwargs)
        max_tokens = longest_input(self.base_model, call.max_length or int(of_documents[0].max_seq_length))
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=max_tokens,
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            prompts=dict(model.prompts),
            unstated_prompts=unstated_prompts(folder, model.prompts),
            default_prompt_name=model.default_prompt_name,
            default_input_type=default_route,
            query_tokenizer_json=None if static is None else _without_special_tokens(config.name, static.tokenizer),
            query_max_tokens=(
                call.limit(of_documents[0].query_length, max_tokens)
                if static is None
                else min(int(static.max_seq_length), max_tokens)
            ),
            document_max_tokens=call.limit(of_documents[0].document_length, max_tokens),
        )
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.SPARSE],
            scoring=scoring or "dot",
            prompts=[name for name, prompt in model.prompts.items() if prompt],
            max_tokens=max_tokens,
            pooling=f"splade_{pooling.pooling_strategy}",
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            batching=self._encoder.batching,
            architecture=type(masked).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Entries of the vocabulary that have a weight, in rising order, for each sequence."""
        if self._static is None or sequences.is_query is None:
            return {Kind.SPARSE: _rows(self._expanded(sequences))}
        documents = np.flatnonzero(~sequences.is_query)
        of_documents = iter(self._expanded(sequences.only(documents)) if len(documents) else ())
        ids = np.split(sequences.ids, np.cumsum(sequences.lengths)[:-1])
        pieces = [
            self._weighed(words, self._static) if is_query else next(of_documents)
            for is_query, words in zip(sequences.is_query, ids, strict=True)
        ]
        return {Kind.SPARSE: _rows(pieces)}

    def _weighed(self, words: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> Piece:
        """The words of a query, each once, with their weights; 0 is none, and below 0 is possible."""
        entries = np.unique(words)
        entries = entries[weights[entries] != 0]
        if self._most_entries is not None and len(entries) > self._most_entries:
            largest = np.argsort(-np.abs(weights[entries]), kind="stable")[: self._most_entries]
            entries = np.sort(entries[largest])
        return Piece(weights[entries], entries)

    def _expanded(self, sequences: Sequences) -> list[Piece]:
        """Positive weights of the vocabulary, as the language model expands each sequence."""
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
        ends = np.cumsum([len(entries) for entries in indices])[:-1]
        of_each = (
            np.split(torch.cat(values).cpu().numpy(), ends),
            np.split(torch.cat(indices).int().cpu().numpy(), ends),
        )
        return [Piece(weights, entries) for weights, entries in zip(*of_each, strict=True)]

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


def _routes(model: Any) -> tuple[list[Any], list[Any], str | None]:
    """The modules that queries and documents go through, and which of the two a text is when it is called neither."""
    modules = list(model)
    if len(modules) != 1 or not isinstance(modules[0], Router):
        return modules, modules, None
    router = modules[0]
    ways = {name: list(way) for name, way in router.sub_modules.items()}
    if set(ways) != {"query", "document"} or router.route_mappings:
        raise ConfigurationError(f"a router of {', '.join(ways)} is not supported, only one of query and document")
    return ways["query"], ways["document"], router.default_route or "document"


def _without_special_tokens(model: str, tokenizer: Any) -> str:
    described = json.loads(fast_tokenizer_json(model, tokenizer))
    return json.dumps({**described, "post_processor": None})


def _rows(pieces: Sequence[Piece]) -> Rows:
    return Rows(
        values=np.concatenate([piece.values for piece in pieces])[:, None],
        counts=np.array([len(piece.values) for piece in pieces], np.int32),
        indices=np.concatenate([piece.indices for piece in pieces if piece.indices is not None]),
    )


class SpladeFamily:
    """Folders of sentence-transformers' sparse encoders, and bare masked language models."""

    name = "splade"
    priority = 5

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """A `SpladePooling` among the modules, or on a router's ways; without a list of modules, a `…ForMaskedLM`."""
        modules = SentenceFiles.of(folder).modules
        if not modules:
            return str((config.get("architectures") or [""])[0]).endswith("ForMaskedLM")
        routes = read_json(folder / modules[0][1] / "router_config.json", {"types": {}})
        types = [*(name for name, _ in modules), *routes["types"].values()]
        return any(kind.rpartition(".")[2] == SpladePooling.__name__ for kind in types)

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> Splade:
        """Load a sparse encoder."""
        return Splade(config, folder, device, dtype)


PLUGIN: Family = SpladeFamily()
