"""A small EmbeddingGemma 2 with random weights: towers for texts, pictures and sound, a tokenizer with its marks."""

import json
from pathlib import Path
from typing import Any

from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors
from transformers import EmbeddingGemma2Config, EmbeddingGemma2Model, PreTrainedTokenizerFast
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from tests.helpers.tiny_models import CORPUS, DIMENSIONS, EMBEDDING_GEMMA2, sharpen

#: Longest input, in tokens; an image has 74 at most.
MAX_TOKENS = 120
_PATCH = 8
_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<|image>", "<|image|>", "<image|>", "<|video|>", "<|audio|>"]
PAD, EOS, BOS, _, BEGIN, IMAGE, END, VIDEO, AUDIO = range(len(_SPECIALS))


def _tokenizer() -> Any:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(CORPUS, vocab_size=600, special_tokens=_SPECIALS, show_progress=False)
    backend = Tokenizer.from_str(trained.to_str())
    ends = [("<bos>", BOS), ("<eos>", EOS)]
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=MAX_TOKENS,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


#: The published folder's template in short: the prompt and the input, one behind the other.
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{{ '<|image|>' if part.type == 'image' else part.text }}{% endfor %}{% endfor %}"
)


def embedding_gemma2(
    folder: Path, *, modules: bool = True, template: str | None = TEMPLATE, processing: dict[str, Any] | None = None
) -> Path:
    """Write one.

    Args:
        folder: Where; created.
        modules: Whether it has sentence-transformers' files: prompts, the mean, unit length.
        template: Its chat template, through which those files put all inputs.
        processing: Their `processing_kwargs`.
    """
    tokenizer = _tokenizer()
    tokenizer.chat_template = template
    layers = {"hidden_size": DIMENSIONS, "intermediate_size": 64, "num_attention_heads": 4, "head_dim": 8}
    text = {
        **layers,
        **EMBEDDING_GEMMA2,
        "embedding_dim": 24,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
    }
    vision = {**layers, "num_hidden_layers": 2, "num_key_value_heads": 4, "patch_size": _PATCH}
    sound = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "output_proj_dims": 32}
    ids = {"image_token_id": IMAGE, "boi_token_id": BEGIN, "eoi_token_id": END}
    config = EmbeddingGemma2Config(
        text_config=text,
        vision_config={"model_type": "gemma4_vision", "position_embedding_size": 256, **vision},
        audio_config={"model_type": "gemma4_audio", **sound},
        video_token_id=VIDEO,
        audio_token_id=AUDIO,
        **ids,
    )
    model = EmbeddingGemma2Model(config).eval()
    sharpen(list(model.named_parameters()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Gemma4ImageProcessorPil(patch_size=_PATCH, max_soft_tokens=70).save_pretrained(folder)
    if modules:
        _describe(folder, processing or {})
    return folder


def _describe(folder: Path, processing: dict[str, Any]) -> None:
    modules = {"1_Pooling": Pooling(24, "mean"), "2_Normalize": Normalize()}
    for name, module in modules.items():
        (folder / name).mkdir()
        module.save(str(folder / name))
    kinds = [
        ("sentence_transformers.base.modules.Transformer", ""),
        ("sentence_transformers.sentence_transformer.modules.Pooling", "1_Pooling"),
        ("sentence_transformers.sentence_transformer.modules.Normalize", "2_Normalize"),
    ]
    listed = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (kind, path) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(listed))
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    way = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = dict.fromkeys(("text", "image", "message"), way)
    described = {"modality_config": modalities, "processing_kwargs": processing}
    (folder / "sentence_bert_config.json").write_text(json.dumps(described))
