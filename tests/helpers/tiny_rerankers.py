"""Small language models with random weights that rerank: real classes, byte-level BPE with the words of the templates."""

from pathlib import Path
from typing import Any

from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
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
    path = folder / f"{name}-rerank"
    model = model_class(config_class(vocab_size=len(words), **{**_SIZES, "tie_word_embeddings": False, **extra})).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(path)
    words.save_pretrained(path)
    return path
