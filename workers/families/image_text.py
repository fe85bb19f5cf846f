"""Images and texts in one space: CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023), SigLIP 2 (Tschannen et al. 2025).

transformers' own classes on both sides; what sentence-transformers' files say of prompts, lengths and modules behind them
counts too. Neither side is packed: images of one model have one size, SigLIP's texts are read with their padding, always at
full length, because it was trained so.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Dropout, LayerNorm, Normalize
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from shared.errors import first_line
from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.family import Family, Outputs
from workers.input_format import InputFormat
from workers.packed import upload
from workers.padded import pad
from workers.prompts import unstated_prompts
from workers.sentence_files import SentenceFiles
from workers.sequences import Sequences
from workers.siglip_tokenizer import fast_siglip_tokenizer
from workers.similarity import dense_scoring, operations_of
from workers.tokenizer_call import TokenizerCall, fast_tokenizer_json

_MODEL_TYPES = frozenset({"clip", "siglip", "siglip2"})
#: Where sentence-transformers before 5.4 put CLIP in its folders.
_LEGACY_MODULE = "0_CLIPModel"
#: What may follow the two sides: modules that look at one vector.
_TAIL = (Dense, LayerNorm, Dropout, Normalize)


class ImageText:
    """One loaded model."""

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        files = SentenceFiles.of(folder)
        scoring, whole = dense_scoring(files.similarity, files.last_module, files.truncate_dim)
        self._tail = [module.to(device).eval() for module in files.tail(config.name, _TAIL, whole=whole)]
        self._truncate_dim = files.truncate_dim
        files.refuse_image_options(config.name)
        prompts, unstated = files.prompts, unstated_prompts(folder, files.prompts)
        if (folder / _LEGACY_MODULE).is_dir():
            folder = folder / _LEGACY_MODULE
        self._device, self._dtype = device, dtype
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)
        self.base_model: Any = model.to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if not getattr(tokenizer, "is_fast", False):
            tokenizer = fast_siglip_tokenizer(tokenizer)
        call = TokenizerCall.of(config.name, tokenizer, files.processing)
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **options)
        described = self.base_model.config
        text, vision = described.text_config, described.vision_config
        self._pads_fully = described.model_type != "clip"
        self._pad_id = tokenizer.pad_token_id or 0
        self._pads_left = tokenizer.padding_side == "left"
        self._masks_text = not self._pads_fully or "attention_mask" in tokenizer.model_input_names
        self._most = int(text.max_position_embeddings)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device)
            for values in (processor.image_mean, processor.image_std)
        )
        self._scale = float(processor.rescale_factor)
        if not (processor.do_rescale and processor.do_normalize):
            raise ConfigurationError(f"model {config.name}: its image processor does not scale pixels as is done here")
        patches = int(getattr(vision, "num_patches", 0) or (vision.image_size // vision.patch_size) ** 2)
        self.input_format = InputFormat(
            tokenizer_json=fast_tokenizer_json(config.name, tokenizer),
            max_tokens=min(self._most, int(call.max_length or files.max_seq_length or tokenizer.model_max_length)),
            add_special_tokens=call.add_special_tokens,
            split_special_tokens=call.split_special_tokens,
            prompts=prompts,
            unstated_prompts=unstated,
            default_prompt_name=files.default_prompt_name,
            padded_to=self._most if self._pads_fully else 0,
            image_processor=str(folder),
            image_tokens=patches + 1,
        )
        self.card = ModelCard(
            name=config.name,
            operations=operations_of(scoring),
            model_type="embedding",
            kinds=[Kind.DENSE],
            scoring=scoring or "cosine",
            modalities=["text", "image"],
            prompts=[name for name, prompt in prompts.items() if prompt],
            dimensions=self._width(config, int(getattr(described, "projection_dim", None) or text.projection_size)),
            max_tokens=self.input_format.max_tokens,
            dtype=str(dtype).removeprefix("torch."),
            packed=False,
            architecture=type(self.base_model).__name__,
        )

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:  # noqa: ARG002 - it has one kind
        """Vectors of texts and images, not normalised."""
        is_image = sequences.is_image
        if sequences.pixels is None or is_image is None:
            return {Kind.DENSE: self._finished(self._of_texts(sequences))}
        of_images = self._of_images(sequences.pixels, sequences.grids)
        if is_image.all():
            return {Kind.DENSE: self._finished(of_images)}
        of_texts = self._of_texts(Sequences(sequences.ids, sequences.lengths[~is_image]))
        # Images, then texts, and from there to the places where they stood.
        places = np.argsort(np.argsort(~is_image, kind="stable"), kind="stable")
        return {Kind.DENSE: self._finished(torch.cat([of_images, of_texts])[upload(places, self._device)])}

    def _finished(self, vectors: Tensor) -> Tensor:
        """What the folder's other modules make of vectors of either side."""
        features = {"sentence_embedding": vectors.float() if self._tail else vectors}
        for module in self._tail:
            features = module(features)
        return features["sentence_embedding"][:, : self._truncate_dim]

    def _width(self, config: ModelConfig, projected: int) -> int:
        """Length of its vectors: that of one, behind the modules that follow a vector of the length `projected`."""
        try:
            with torch.inference_mode():
                return int(self._finished(torch.ones((1, projected), device=self._device)).shape[1])
        except RuntimeError as err:
            raise ConfigurationError(
                f"model {config.name}: the modules of its modules.json do not fit each other: {first_line(err)}"
            ) from err

    def _of_texts(self, sequences: Sequences) -> Tensor:
        width = self._most if self._pads_fully else None
        inputs = pad(sequences, self._pad_id, self._device, types=False, width=width, left=self._pads_left)
        if not self._masks_text:
            del inputs["attention_mask"]
        features: Tensor = self.base_model.get_text_features(**inputs).pooler_output
        return features

    def _of_images(self, pixels: npt.NDArray[np.uint8], grids: npt.NDArray[np.int32] | None) -> Tensor:
        values = upload(pixels, self._device).float() * self._scale
        arguments: dict[str, Tensor] = {}
        if grids is None:
            values = (values - self._mean[:, None, None]) / self._std[:, None, None]
        else:
            # Patches of any aspect ratio: the last dimension is rows x columns x channels; what is no patch is masked.
            values = ((values.reshape(*values.shape[:2], -1, len(self._mean)) - self._mean) / self._std).flatten(2)
            shapes = upload(grids.astype(np.int64), self._device)
            mask = torch.arange(values.shape[1], device=self._device) < shapes.prod(dim=1, keepdim=True)
            values = values * mask[..., None]
            arguments = {"pixel_attention_mask": mask.to(torch.int32), "spatial_shapes": shapes}
        features: Tensor = self.base_model.get_image_features(
            pixel_values=values.to(self._dtype), **arguments
        ).pooler_output
        return features


class ImageTextFamily:
    """CLIP and SigLIP folders, of transformers and of sentence-transformers."""

    name = "image_text"
    priority = 30

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Told by the model type."""
        return config.get("model_type") in _MODEL_TYPES or (folder / _LEGACY_MODULE).is_dir()

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> ImageText:
        """Load both sides."""
        return ImageText(config, folder, device, dtype)


PLUGIN: Family = ImageTextFamily()
