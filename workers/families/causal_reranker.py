"""Rerankers made of language models: the scores of one or two words as the next token after a template.

| model | template | score |
|---|---|---|
| Qwen3-Reranker (Qwen's model card) | system, instruction, query, document, empty thought | "yes" minus "no" |
| the same, converted to a classifier | the same | its one label |
| mxbai-rerank v2 (mixedbread's `mxbai_rerank_v2.py`) | system, instruction, query, document, task | "1" minus "0" |
| bge-reranker-v2-gemma (FlagEmbedding's `decoder_only/base.py`) | "A: query", "B: document", question | "Yes" |

| CrossEncoder folders of sentence-transformers 5.4 and later | their own chat template | their `LogitScore`'s tokens |

Only the vocabulary rows of those words are multiplied, with the last state, in float32. Softmax over two words is the
sigmoid of their difference.

A `…ForCausalLM` folder does not say that it reranks, unless it has a `LogitScore` among its `modules.json`, and then
everything else too. Another one is taken for a reranker when its folder's name has "rerank" in it, as those of the
published models have, and is served if the name also says which of them it is like, or when `models.yaml` says
`family: causal_reranker`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.queues import Operation
from shared.results import Kind
from workers.chat_template import UnsupportedTemplate, cross_encoder_format, is_templated
from workers.encoder import Encoder
from workers.family import Family, Outputs, library_options
from workers.folder_name import says
from workers.input_format import InputFormat
from workers.packed import DECODERS, longest_input
from workers.sentence_files import SentenceFiles, read_json
from workers.sequences import Sequences
from workers.tokenizer_call import fast_tokenizer_json


@dataclass(frozen=True)
class _Recipe:
    """How one kind of model is asked, and what answers."""

    template: Sequence[str]
    #: Words for and (perhaps) against.
    words: Sequence[str]
    #: What the folders of models that were trained so have in their names.
    name: str
    default_instruction: str = ""
    #: The query's part where there is an instruction, if it is another one then.
    instructed_query: str = ""

    @property
    def instructed_template(self) -> list[str]:
        """The template of requests with an instruction; empty where it has a place for one."""
        if not self.instructed_query:
            return []
        return [self.instructed_query if "{query}" in part else part for part in self.template]


_QWEN3 = _Recipe(
    template=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
        "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    words=("yes", "no"),
    name="qwen3",
    default_instruction="Given a web search query, retrieve relevant passages that answer the query",
)
_MXBAI = _Recipe(
    template=(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n",
        "query: {query}",
        "\n",
        "document: {document}",
        "\n",
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    words=("1", "0"),
    name="mxbai",
    instructed_query="instruction: {instruction}\nquery: {query}",
)
_BGE = _Recipe(
    template=(
        "<bos>",
        "A: {query}",
        "\n",
        "B: {document}",
        "\n",
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
        "prediction of either 'Yes' or 'No'.",
    ),
    words=("Yes",),
    name="bge",
)
_RECIPES = {"qwen3": _QWEN3, "qwen2": _MXBAI, "gemma": _BGE, "gemma2": _BGE}


@dataclass(frozen=True)
class _Loaded:
    """A model, how it is asked, and what answers."""

    model: Any
    tokenizer: Any
    input_format: InputFormat
    #: Output rows of the words for and (perhaps) against, shape (words, hidden size), float32.
    weight: Tensor


class CausalReranker:
    """One loaded reranker. Its rows are logits; the worker applies the sigmoid."""

    def __init__(self, config: ModelConfig, loaded: _Loaded, device: torch.device, dtype: torch.dtype) -> None:
        model = loaded.model
        self.base_model = model.base_model
        self._encoder = Encoder(self.base_model, loaded.tokenizer, device)
        self._weight = loaded.weight
        # What the wrapper would do to its logits; none of the classifiers does it.
        self._softcap: float | None = getattr(model.config, "final_logit_softcapping", None)
        self.input_format = loaded.input_format
        self.card = ModelCard(
            name=config.name,
            operations=[Operation.RERANK],
            model_type="reranker",
            scoring="logit",
            prompts=[name for name, prompt in self.input_format.prompts.items() if prompt],
            max_tokens=self.input_format.max_tokens,
            pooling="lasttoken",
            dtype=str(dtype).removeprefix("torch."),
            packed=self._encoder.packed,
            batching=self._encoder.batching,
            architecture=type(model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Logits, shape (pairs, 1)."""
        logits = self._encoder(sequences).last().float() @ self._weight.T
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return {Kind.SCORES: logits[:, :1] - logits[:, 1:] if logits.shape[1] > 1 else logits}


def _by_recipe(config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> _Loaded:
    """A published model by what its card says."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    options: dict[str, Any] = {"local_files_only": True, "dtype": dtype, "use_safetensors": True}
    loader = AutoModelForSequenceClassification if _is_classifier(folder) else AutoModelForCausalLM
    model = loader.from_pretrained(folder, **options).to(device).eval()
    recipe = _RECIPES.get(model.config.model_type)
    if recipe is None:
        known = ", ".join(_RECIPES)
        raise ConfigurationError(
            f"model {config.name}: no reranking template is known for {model.config.model_type}, only for {known}"
        )
    if config.family is None and not says(folder, recipe.name):
        raise ConfigurationError(
            f"model {config.name}: what its template is its files do not say, and its folder's name does not have "
            f'"{recipe.name}" in it; if it was trained on the same one, name `family: causal_reranker`'
        )
    max_tokens = min(int(tokenizer.model_max_length), _positions(model.config))
    input_format = InputFormat(
        tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
        max_tokens=longest_input(model.base_model, max_tokens),
        split_special_tokens=bool(tokenizer.split_special_tokens),
        pairs="template",
        template=list(recipe.template),
        instructed_template=recipe.instructed_template,
        default_instruction=recipe.default_instruction,
    )
    return _Loaded(model, tokenizer, input_format, _answer_weight(model, tokenizer, recipe.words, config.name))


def _by_modules(config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> _Loaded:
    """A sentence-transformers `CrossEncoder` of a language model and a `LogitScore`."""
    encoder = CrossEncoder(str(folder), **library_options(device, dtype)).eval()
    transformer, *others = encoder
    model, tokenizer = transformer.model, transformer.tokenizer
    if len(others) != 1 or not isinstance(others[0], LogitScore) or transformer.transformer_task != "text-generation":
        raise ConfigurationError(f"model {config.name}: only a language model and its LogitScore make a reranker here")
    if model.config.model_type not in DECODERS:
        known = ", ".join(sorted(DECODERS))
        raise ConfigurationError(f"model {config.name}: {model.config.model_type} does not rerank here, only {known}")
    try:
        input_format = cross_encoder_format(config.name, encoder, templated=is_templated(encoder))
    except UnsupportedTemplate as err:
        raise ConfigurationError(f"model {config.name}: its chat template is not one for pairs here: {err}") from err
    tokens = [token for token in (others[0].true_token_id, others[0].false_token_id) if token is not None]
    weight: Tensor = model.get_output_embeddings().weight.detach()[tokens].float()
    return _Loaded(model, tokenizer, input_format, weight)


def _is_classifier(folder: Path) -> bool:
    architectures = read_json(folder / "config.json", {}).get("architectures") or [""]
    return str(architectures[0]).endswith("ForSequenceClassification")


def _has_logit_score(files: SentenceFiles) -> bool:
    return any(name == LogitScore.__name__ for name, _ in files.modules)


def _answer_weight(model: Any, tokenizer: Any, words: Sequence[str], name: str) -> Tensor:
    """The output rows that make the score, shape (words, hidden), float32."""
    if hasattr(model, "score"):
        weight: Tensor = model.score.weight.detach().float()
        return weight
    ids = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    if any(len(word_ids) == 0 for word_ids in ids):
        raise ConfigurationError(f"model {name}: its tokenizer does not know the words {', '.join(words)}")
    rows: Tensor = model.get_output_embeddings().weight.detach()[[word_ids[0] for word_ids in ids]].float()
    return rows


def _positions(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 30)


class CausalRerankerFamily:
    """Language models that rerank, and classifiers made of Qwen3-Reranker."""

    name = "causal_reranker"
    priority = 10

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """A `LogitScore` among the modules; without a list of them, a known model type and "rerank" in the folder's name."""
        files = SentenceFiles.of(folder)
        if files.modules:
            return _has_logit_score(files)
        architecture = str((config.get("architectures") or [""])[0])
        if not says(folder, "rerank") or config.get("model_type") not in _RECIPES:
            return False
        labels = config.get("id2label") or {}
        one_label = architecture == "Qwen3ForSequenceClassification" and len(labels) == 1
        return architecture.endswith("ForCausalLM") or one_label

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> CausalReranker:
        """Load a reranker."""
        load = _by_modules if _has_logit_score(SentenceFiles.of(folder)) else _by_recipe
        return CausalReranker(config, load(config, folder, device, dtype), device, dtype)


PLUGIN: Family = CausalRerankerFamily()
