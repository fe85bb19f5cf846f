"""Small T5 with random weights that rerank as monoT5 does: real classes, a unigram tokenizer in T5's."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration, T5Tokenizer

from tests.helpers.tiny_models import CORPUS, sharpen

#: Longest input, in tokens.
MAX_TOKENS = 96
#: Folder, classes, the words against and for, and what is particular.
MODELS: dict[str, tuple[Any, Any, tuple[str, str], dict[str, Any]]] = {
    "monot5-tiny": (T5ForConditionalGeneration, T5Config, ("▁false", "▁true"), {}),
    # T5 1.1: a gated layer, and an output layer of its own whose input is not scaled.
    "InRanker-tiny": (
        T5ForConditionalGeneration,
        T5Config,
        ("▁false", "▁true"),
        {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    ),
    "mt5-base-mmarco-tiny": (MT5ForConditionalGeneration, MT5Config, ("▁no", "▁yes"), {}),
    "mt5-13b-mmarco-tiny": (MT5ForConditionalGeneration, MT5Config, ("▁", "▁true"), {}),
    "ptt5-base-pt-msmarco-tiny": (T5ForConditionalGeneration, T5Config, ("▁não", "▁sim"), {}),
}


def _tokenizer() -> Any:
    """A unigram model in T5's class, which knows the words of template and answers."""
    trained = Tokenizer(Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator([*CORPUS, "Query: Document: Relevant:"], trainer)
    known = trained.get_vocab()
    words = [word for word in ("▁", "▁true", "▁false", "▁yes", "▁no", "▁não", "▁sim") if word not in known]
    vocabulary = [(piece, -8.0) for piece in sorted(known, key=known.__getitem__)] + [(word, -4.0) for word in words]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=MAX_TOKENS)


def monot5(parent: Path, name: str) -> Path:
    """Write one of `MODELS`, in a folder of its name."""
    model_class, config_class, _, extra = MODELS[name]
    tokenizer = _tokenizer()
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
    buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
    ids = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}
    model = model_class(config_class(vocab_size=len(tokenizer), **sizes, **buckets, **ids, **extra)).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(parent / name)
    tokenizer.save_pretrained(parent / name)
    return parent / name
