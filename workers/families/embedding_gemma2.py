"""Texts and images through one encoder: EmbeddingGemma 2, by transformers' own class.

A text is read as it is, an image as the vision tower's states between the tokens that say where it begins and ends, and the
vector is what the folder's `modules.json` makes of the token states, their mean where it has none. Both share a packed
batch.

The towers for sound and film are not loaded, and neither is transformers' processor for all four, which needs torchvision.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize, Pooling
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.encoder import Hidden
from workers.family import Family, Outputs
from workers.input_format import InputFormat
from workers.packed import ATTENTION, HostBatch, longest_input, upload
from workers.prompts import unstated_prompts
from workers.sentence_files import SentenceFiles
from workers.sequences import Int32Array, Sequences
from workers.similarity import dense_scoring, operations_of
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

#: What may follow the transformer.
_TAIL = (Pooling, Dense, LayerNorm, Dropout, Normalize)
#: An id that every vocabulary has.
_ANY_TOKEN = 5
#: Prompts and texts that a template might do something with.
_PROBES = ((None, "text"), (None, "  two  words\n"), ("prompt: ", "text"))


class EmbeddingGemma2:
    """One loaded model."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        files = SentenceFiles.of(folder)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        described = AutoConfig.from_pretrained(folder, **options)
        described.audio_config = None
        self._device, self._dtype = device, dtype
        self.base_model: Any = (
            AutoModel.from_pretrained(folder, config=described, dtype=dtype, use_safetensors=True, **options)
            .to(device)
            .eval()
        )
        self._text: Any = self.base_model.language_model
        self._text.set_attn_implementation(ATTENTION)
        self._pad_id = int(described.text_config.pad_token_id)
        self._placeholders = [described.image_token_id, described.video_token_id, described.audio_token_id]
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        _check_files(config, files, tokenizer)
        scoring, whole = dense_scoring(files.similarity, files.last_module, files.truncate_dim)
        self._tail: list[torch.nn.Module] = [
            module.to(device).eval() for module in files.tail(config.name, _TAIL, whole=whole)
        ]
        if not files.modules:
            self._tail = [Pooling(int(described.text_config.embedding_dim), "mean")]
        pooling = next(iter(self._tail), None)
        if not isinstance(pooling, Pooling) or not pooling.include_prompt:
            raise ConfigurationError(f"model {config.name}: its modules.json does not pool all of a text's tokens")
        self._truncate_dim = files.truncate_dim
        call = TokenizerCall.of(config.name, tokenizer, files.processing)
        stated = int(call.max_length or files.max_seq_length or tokenizer.model_max_length)
        max_tokens = min(longest_input(self._text, stated), int(described.text_config.max_position_embeddings))
        has_eyes = self.base_model.vision_tower is not None
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=max_tokens,
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            prompts=files.prompts,
            unstated_prompts=unstated_prompts(folder, files.prompts),
            default_prompt_name=files.default_prompt_name,
            query_max_tokens=call.limit(files.transformer.get("query_length"), max_tokens),
            document_max_tokens=call.limit(files.transformer.get("document_length"), max_tokens),
            **(self._open_eyes(config, folder, tokenizer) if has_eyes else {}),
        )
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.DENSE],
            scoring=scoring or "cosine",
            modalities=["text", "image"] if has_eyes else ["text"],
            prompts=[name for name, prompt in files.prompts.items() if prompt],
            dimensions=self._width(),
            max_tokens=max_tokens,
            pooling=str(pooling.pooling_mode),
            late_chunking=pooling.pooling_mode == "mean",
            dtype=str(dtype).removeprefix("torch."),
            packed=True,
            architecture=type(self.base_model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Vectors of texts and images, not normalised."""
        # What stands for an image has no embedding of its own; spelled out in a text it shows nothing, as for transformers.
        ids = np.where(np.isin(sequences.ids, self._placeholders), self._pad_id, sequences.ids).astype(np.int32)
        batch = HostBatch.of(replace(sequences, ids=ids), padding_idx=None).on(self._device)
        embeddings = self._text.embed_tokens(batch.input_ids)
        if sequences.pixels is not None and sequences.grids is not None and sequences.image_starts is not None:
            ends = sequences.image_starts + sequences.grids.prod(axis=1) // self._side**2
            places = np.concatenate([*map(np.arange, sequences.image_starts, ends)])
            embeddings[0, upload(places, self._device)] = self._look(sequences.pixels, sequences.grids)
        states = self._text(
            inputs_embeds=embeddings, position_ids=batch.position_ids, **batch.attention_arguments()
        ).last_hidden_state[0]
        # Half precision is for the transformer: what follows is little work, and its rounding would be the vector's.
        hidden = Hidden(states.float(), batch.input_ids[0], batch.cu_seq_lens, batch.seq_idx)
        if sequences.chunk_lengths is not None:
            hidden = hidden.in_chunks(sequences.chunk_lengths)
        features = hidden.features()
        for module in self._tail:
            features = module(features)
        return {Kind.DENSE: cast("Tensor", features["sentence_embedding"])[:, : self._truncate_dim]}

    def _open_eyes(self, config: ModelConfig, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """Learn how images are prepared; what the input format says of them."""
        described = self.base_model.config
        processor = AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        if processor.do_normalize or not processor.do_rescale:
            raise ConfigurationError(f"model {config.name}: its image processor does not scale pixels as is done here")
        self._scale = float(processor.rescale_factor)
        self._side = int(described.vision_config.pooling_kernel_size)
        marks = [described.boi_token_id, described.image_token_id, described.eoi_token_id]
        marked = "".join(tokenizer.convert_ids_to_tokens(marks))
        if tokenizer(marked, add_special_tokens=False)["input_ids"] != marks:
            raise ConfigurationError(f"model {config.name}: its tokenizer does not know the tokens around an image")
        return {
            "image_processor": str(folder),
            "image_text": marked,
            "image_token": int(described.image_token_id),
            "patches_per_token": self._side**2,
            "tokens_per_patch": 1.0,  # the vision tower is about as large as the text tower
        }

    def _look(self, pixels: npt.NDArray[np.uint8], grids: Int32Array) -> Tensor:
        """The vision tower's states for the images' tokens, shape (tokens, hidden size)."""
        counts = grids.prod(axis=1)
        patches = np.split(pixels, np.cumsum(counts)[:-1])
        states: dict[int, Tensor] = {}
        for count in np.unique(counts):  # images of as many patches need no padding
            which = np.flatnonzero(counts == count)
            values = upload(np.stack([patches[index] for index in which]), self._device).float() * self._scale
            positions = np.stack([_positions(*grids[index].tolist()) for index in which])
            seen = self.base_model.get_image_features(
                pixel_values=values,  # the tower rounds them when it has centred them
                image_position_ids=upload(positions, self._device),
                return_dict=True,
            )
            states |= zip(which.tolist(), seen.pooler_output, strict=True)
        return torch.cat([states[index] for index in range(len(grids))]).to(self._dtype)

    def _width(self) -> int:
        """Length of its vectors: that of one."""
        one = Sequences(np.array([_ANY_TOKEN], np.int32), np.array([1], np.int32))
        with torch.inference_mode():
            return int(cast("Tensor", self.forward(one, [Kind.DENSE])[Kind.DENSE]).shape[1])


def _check_files(config: ModelConfig, files: SentenceFiles, tokenizer: Any) -> None:
    """Refuse what sentence-transformers would do with an input and is not done here.

    The published folder has every input go through a chat template that puts the prompt and the input one behind the other,
    which is what is done here without it.

    Raises:
        ConfigurationError: Another template, or options of its own for images.
    """
    files.refuse_image_options(config.name)
    if "message" not in files.transformer.get("modality_config", {}):
        return
    options = files.processing.get("chat_template", {})
    for prompt, text in _PROBES:
        messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        if prompt is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": prompt}]})
        if tokenizer.apply_chat_template(messages, tokenize=False, **options) != (prompt or "") + text:
            raise ConfigurationError(
                f"model {config.name}: its chat template does more than to put a prompt in front of an input"
            )


def _positions(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Column and row of each patch, shape (patches, 2)."""
    return np.stack([np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)], axis=1)


class EmbeddingGemma2Family:
    """EmbeddingGemma 2 folders, of transformers and of sentence-transformers."""

    name = "embedding_gemma2"
    priority = 20

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:  # noqa: ARG002 - the type says it
        """Told by the model type; its text tower alone is an encoder like others."""
        return config.get("model_type") == "embedding_gemma2"

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> EmbeddingGemma2:
        """Load a model."""
        return EmbeddingGemma2(config, folder, device, dtype)


PLUGIN: Family = EmbeddingGemma2Family()
