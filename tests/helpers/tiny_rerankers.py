"""Small language models with random weights that rerank: real classes, byte-level BPE with the words of the templates."""

from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from tests.helpers.tiny_models import CORPUS, sharpen

#: Longest input in tokens, template included: byte-level templates are long.
MAX_TOKENS = 640
_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<bos>"]
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_TOKENS,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "qwen3-tied": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8, "tie_word_embeddings": True}),
    "qwen3-classifier": (Qwen3ForSequenceClassification, Qwen3Config, {"head_dim": 8, "num_labels": 1}),
    "mxbai": (Qwen2ForCausalLM, Qwen2Config, {}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {"head_dim": 8}),
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config,
        {"head_dim": 8, "sliding_window": 64, "attn_logit_softcapping": None, "final_logit_softcapping": 30.0},
    ),
}


#: More language models, which rerank only where their files say so.
DECLARED: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    **MODELS,
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 64}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 8, "sliding_window": 64}),
}


def _content(role: str) -> str:
    return f"messages | selectattr('role', 'eq', '{role}') | map(attribute='content') | first"


#: Chat templates as rerankers have them.
TEMPLATES = {
    # Qwen3-Reranker's: an instruction of its own where there is no system message.
    "instructed": "<|im_start|>system\nAnswer yes or no.<|im_end|>\n<|im_start|>user\n<Instruct>: "
    f"{{{{ {_content('system')} | default('Find it') }}}}\n<Query>: {{{{ {_content('query')} }}}}\n<Document>: "
    f"{{{{ {_content('document')} }}}}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    # zerank's: the query as the system's words; none of either's outer white space, and no place for an instruction.
    "trimmed": f"<|im_start|>system\n{{{{ {_content('query')} | trim }}}}<|im_end|>\n<|im_start|>user\n"
    f"{{{{ {_content('document')} | trim }}}}<|im_end|>\n<|im_start|>assistant\n",
    # Whatever the roles are: with an instruction there is a message more.
    "any role": "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n",
    # Contents as lists; the tail is plain text, whose first token a document's last one may swallow.
    "structured": "{% for message in messages %}{{ message.role }}: {{ message.content[0].text }}\n{% endfor %}Answer:",
}


def tokenizer() -> Any:
    """Byte-level BPE whose vocabulary holds the special tokens and the words that answer."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=500, special_tokens=_SPECIALS, show_progress=False)
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained.to_str()),
        model_max_length=MAX_TOKENS,
        padding_side="left",
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    made.add_tokens(["yes", "no", "Yes"])
    return made


def causal_reranker(folder: Path, name: str) -> Path:
    """Write one of `MODELS`; its folder's name says that it reranks, as the published ones do."""
    model_class, config_class, extra = MODELS[name]
    words = tokenizer()
    path = folder / f"{'bge-' if name.startswith('gemma') else ''}{name}-rerank"
    model = model_class(config_class(vocab_size=len(words), **{**_SIZES, "tie_word_embeddings": False, **extra})).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path


def logit_score_reranker(
    folder: Path, name: str, template: str | None, *, words: tuple[str, str | None] = ("yes", "no"), **options: Any
) -> Path:
    """Write one of `DECLARED` as sentence-transformers saves a `CrossEncoder` of a language model.

    Args:
        folder: Where; created.
        name: The model.
        template: A chat template, one of `TEMPLATES` or spelled out; None for none.
        words: For and, perhaps, against.
        options: More of `CrossEncoder`'s, and `processing` for its `Transformer`'s `processing_kwargs`.
    """
    model_class, config_class, extra = DECLARED[name]
    spoken = tokenizer()
    spoken.chat_template = TEMPLATES.get(template or "", template)
    model = model_class(
        config_class(vocab_size=len(spoken), **{**_SIZES, "tie_word_embeddings": False, **extra})
    ).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(folder / "bare")
    spoken.save_pretrained(folder / "bare")
    processing = options.pop("processing", None)
    language_model = Transformer(str(folder / "bare"), transformer_task="text-generation", processing_kwargs=processing)
    tokens = [None if word is None else spoken.convert_tokens_to_ids(word) for word in words]
    made = CrossEncoder(modules=[language_model, LogitScore(*tokens)], device="cpu", **options)
    made.save_pretrained(str(folder / "saved"), create_model_card=False)
    return folder / "saved"
