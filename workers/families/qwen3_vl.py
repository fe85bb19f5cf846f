"""Texts and images through a language model that sees: Qwen3-VL-Embedding (Li et al. 2026).

As in `qwen3_vl_embedding.py` of QwenLM/Qwen3-VL-Embedding: the instruction is the system's turn, the text or image the
user's, and the vector is the last hidden state of the last token of the chat template, which is the folder's own. Each
image is scaled to between 4 and 1,800 squares of 32 pixels and is as many tokens.

Texts and images share a packed batch. An image's tokens have the vision tower's states as embeddings, its deeper states
added behind the first layers (DeepStack), and positions by row and column (interleaved MRoPE).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.family import Family, Outputs
from workers.folder_name import says
from workers.input_format import InputFormat
from workers.packed import ATTENTION, HostBatch, longest_input, upload
from workers.prompts import unstated_prompts
from workers.sentence_files import SentenceFiles, read_json
from workers.sequences import Int32Array, Sequences
from workers.shared_prefix import shared_prefix
from workers.similarity import dense_scoring, operations_of
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

#: Longest input, in tokens, and the instruction where none is given: the defaults of Qwen's code.
_MAX_TOKENS = 8192
_DEFAULT_INSTRUCTION = "Represent the user's input."
#: Least and most squares of patches in an image, in the same place.
_IMAGE_SQUARES = (4, 1800)
#: What an input without text and image is there.
_EMPTY = "NULL"
#: What texts become in the template: nothing, space around, its own tokens.
_PROBES = ("", "  two  words\n", "<|im_end|>\n")


class Qwen3VL:
    """One loaded model."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        files = SentenceFiles.of(folder)
        _check_modules(config, files)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        self._device, self._dtype = device, dtype
        self.base_model: Any = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)
        self.base_model.to(device).eval()
        self._text: Any = self.base_model.language_model
        self._text.set_attn_implementation(ATTENTION)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
        if not (processor.do_rescale and processor.do_normalize):
            raise ConfigurationError(f"model {config.name}: its image processor does not scale pixels as is done here")
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device)[:, None]
            for values in (processor.image_mean, processor.image_std)
        )
        self._scale = float(processor.rescale_factor)
        vision = self.base_model.config.vision_config
        self._frames = int(vision.temporal_patch_size)
        self._side = int(vision.spatial_merge_size)
        square = (int(vision.patch_size) * self._side) ** 2
        self._truncate_dim = files.truncate_dim
        scoring, self._unit = dense_scoring(files.similarity, files.last_module, files.truncate_dim)
        prompts = files.prompts
        template = _Template(config, files, tokenizer)
        text = self.base_model.config.text_config
        call = TokenizerCall.of(config.name, tokenizer, files.processing, templated=True)
        if call.split_special_tokens:
            raise ConfigurationError(
                f"model {config.name}: split_special_tokens would split its chat template's tokens"
            )
        longest = int(call.max_length or files.max_seq_length or tokenizer.model_max_length)
        stated = min(_MAX_TOKENS, longest, int(text.max_position_embeddings))
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=longest_input(self._text, stated),
            prompts=prompts,
            unstated_prompts=unstated_prompts(folder, prompts),
            default_prompt_name=files.default_prompt_name,
            default_instruction=template.default_instruction,
            image_processor=str(folder),
            image_pixels=[squares * square for squares in _IMAGE_SQUARES],
            chat=template.chat,
            image_text=template.image,
            chat_empty=_EMPTY,
            image_token=int(self.base_model.config.image_token_id),
            patches_per_token=self._side**2,
        )
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.DENSE],
            scoring=scoring or "cosine",
            modalities=["text", "image"],
            prompts=[name for name, prompt in self.input_format.prompts.items() if prompt],
            dimensions=min(int(text.hidden_size), files.truncate_dim or int(text.hidden_size)),
            max_tokens=self.input_format.max_tokens,
            pooling="lasttoken",
            dtype=str(dtype).removeprefix("torch."),
            packed=True,
            architecture=type(self.base_model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Last token states of texts and images, not normalised."""
        host = HostBatch.of(sequences, padding_idx=None)
        batch = host.on(self._device)
        embeddings = self._text.embed_tokens(batch.input_ids)
        grids = np.zeros((0, 2), np.int32) if sequences.grids is None else sequences.grids // self._side
        starts = np.zeros(0, np.int32) if sequences.image_starts is None else sequences.image_starts
        # Where the images' tokens stand in the batch, and for each place of the batch the number of its image token, or -1.
        places = np.concatenate([np.arange(0), *map(np.arange, starts, starts + grids.prod(axis=1))])
        numbers = np.full(len(sequences.ids), -1)
        numbers[places] = np.arange(len(places))
        deeper: list[Tensor] = []
        if sequences.pixels is not None and sequences.grids is not None:
            states, deeper = self._look(sequences.pixels, sequences.grids)
            embeddings[0, upload(places, self._device)] = states
        positions = upload(image_positions(host.values[1], host.ends, starts, grids), self._device)[:, None]
        arguments = batch.attention_arguments()
        last = host.ends[1:].astype(np.int64) - 1
        # Images' tokens are all the same one and stand for different things: none may be taken for a shared prefix.
        ids = np.where(numbers < 0, sequences.ids, -1 - numbers).astype(np.int32)
        if (shared := shared_prefix(Sequences(ids, sequences.lengths))) is not None:
            expand, compact = (upload(index, self._device) for index in (shared.expand, shared.compact))
            arguments |= {"packed_expand": expand, "packed_compact": compact}
            embeddings, positions = embeddings[:, compact], positions[:, :, compact]
            numbers, last = numbers[shared.compact], shared.expand[last]
        if deeper:
            order = upload(numbers[numbers >= 0], self._device)
            arguments["visual_pos_masks"] = upload(numbers >= 0, self._device)[None]
            arguments["deepstack_visual_embeds"] = [states[order] for states in deeper]
        hidden = self._text(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False, **arguments
        ).last_hidden_state
        vectors = hidden[0, upload(last, self._device)]
        if self._unit:
            vectors = functional.normalize(vectors.float(), dim=-1)
        return {Kind.DENSE: vectors[:, : self._truncate_dim]}

    def _look(self, pixels: npt.NDArray[np.uint8], grids: Int32Array) -> tuple[Tensor, list[Tensor]]:
        """The vision tower's states for the images' tokens, shape (tokens, hidden), and those of its earlier layers."""
        values = (upload(pixels, self._device).float() * self._scale - self._mean) / self._std
        patches = values[:, :, None].expand(-1, -1, self._frames, -1).flatten(1)
        # One point in time, height and width in patches.
        sizes = upload(np.insert(grids.astype(np.int64), 0, 1, axis=1), self._device)
        seen = self.base_model.visual(patches.to(self._dtype), grid_thw=sizes)
        return seen.pooler_output, seen.deepstack_features


def image_positions(
    positions: npt.NDArray[np.int64],
    ends: Int32Array,
    starts: Int32Array,
    grids: Int32Array,
) -> npt.NDArray[np.int64]:
    """Positions in time, height and width, as Qwen3-VL counts them.

    An image stands at one point in time and its tokens in rows and columns from there; what follows it goes on behind its
    longer side.

    Args:
        positions: Each token's place in its sequence, shape (total,).
        ends: Cumulative lengths of the sequences, shape (count + 1,).
        starts: Where in the batch each image begins, ascending, shape (images,).
        grids: Its rows and columns of tokens, shape (images, 2).

    Returns:
        Shape (3, total).
    """
    axes = np.tile(positions, (3, 1))
    for start, (rows, columns) in zip(starts.tolist(), grids.tolist(), strict=True):
        end = start + rows * columns
        first = axes[0, start]
        axes[:, end : ends[np.searchsorted(ends, start, side="right")]] -= rows * columns - max(rows, columns)
        axes[0, start:end] = first
        axes[1, start:end] = first + np.repeat(np.arange(rows), columns)
        axes[2, start:end] = first + np.tile(np.arange(columns), rows)
    return axes


class _Template:
    """A folder's chat template as strings around the instruction and the input."""

    def __init__(self, config: ModelConfig, files: SentenceFiles, tokenizer: Any) -> None:
        self._name, self._tokenizer = config.name, tokenizer
        if tokenizer.chat_template is None:
            tokenizer.chat_template = read_json(files.folder / "chat_template.json", {}).get("chat_template")
        if tokenizer.chat_template is None:
            raise ConfigurationError(f"model {config.name} has no chat template")
        given = files.processing.get("chat_template", {})
        # The state of the generation prompt's last token is the vector: Qwen's code adds it, and so do its folders.
        self._options = {"add_generation_prompt": True, **given}
        self._options.pop("restore_suffix", None)  # sentence-transformers' own: what is always done here
        before, *rest = self._render("{instruction}", "{input}").split("{instruction}")
        if len(rest) != 1 or rest[0].count("{input}") != 1:
            raise self._unsupported("has no place of its own for an instruction and an input")
        between, closing = rest[0].split("{input}")
        special = max(
            (between.rfind(token) + len(token) for token in tokenizer.get_added_vocab() if token in between), default=0
        )
        #: See `InputFormat.chat`.
        self.chat = [before, between[:special], between[special:], closing]
        self.image = self._render("{instruction}", None)[len(before + "{instruction}" + between) : -len(closing)]
        for probe in _PROBES:
            if self._render(probe, probe) != before + probe + between + probe + closing:
                raise self._unsupported("does more with an instruction and an input than to put them into places")
        bare = self._render(None, "{input}")
        default = bare.removeprefix(before).removesuffix(between + "{input}" + closing)
        #: What the template says by itself where no system speaks.
        self.default_instruction = (
            default if bare == before + default + between + "{input}" + closing else _DEFAULT_INSTRUCTION
        )

    def _render(self, instruction: str | None, text: str | None) -> str:
        """A conversation about a text, or about an image where it is None."""
        content = {"type": "image"} if text is None else {"type": "text", "text": text}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [content]}]
        if instruction is not None:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": instruction}]})
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **self._options))

    def _unsupported(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"model {self._name}: its chat template {why}")


def _check_modules(config: ModelConfig, files: SentenceFiles) -> None:
    """Refuse folders of sentence-transformers that make something else of texts or of token states.

    Raises:
        ConfigurationError: It has other modules, another pooling, or no use for the chat template.
    """
    if not files.modules:
        return
    paths = dict(files.modules)
    if others := paths.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ConfigurationError(f"model {config.name}: its module {min(others)} is not served by the family qwen3_vl")
    pooling = read_json(files.folder / paths.get("Pooling", "") / "config.json", {})
    if pooling.get("pooling_mode") != "lasttoken" and not pooling.get("pooling_mode_lasttoken"):
        raise ConfigurationError(f"model {config.name}: the family qwen3_vl pools by the last token only")
    if "message" not in files.transformer.get("modality_config", {}):
        raise ConfigurationError(
            f"model {config.name}: its sentence_bert_config.json puts no `message` through the chat template, which is all "
            "that the family qwen3_vl does"
        )


class Qwen3VLFamily:
    """Qwen3-VL-Embedding folders, of transformers and of sentence-transformers."""

    name = "qwen3_vl"
    priority = 20

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Told by the model type; the rerankers have the same, and "rerank" in their names."""
        return config.get("model_type") == "qwen3_vl" and not says(folder, "rerank")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> Qwen3VL:
        """Load a model."""
        return Qwen3VL(config, folder, device, dtype)


PLUGIN: Family = Qwen3VLFamily()
