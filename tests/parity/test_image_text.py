"""CLIP and SigLIP give transformers' vectors of texts and images, whatever shares their batch."""

import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Transformer
from transformers import AutoModel, AutoProcessor

from shared.errors import InvalidRequest, WrongTask
from shared.model_config import ConfigurationError
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Array, Served
from tests.helpers.tiny_image_models import NAMES, TEXT_TOKENS, encoded, image_text_model, picture
from tests.helpers.tiny_models import embedding_model
from workers.images import MAX_ASPECT, MAX_PIXELS
from workers.scoring import normalized

TOLERANCE = 1e-5
#: Wide, tall, of the model's own size, tiny, a line, in grey, with transparency, from a palette.
PICTURES = [
    picture(90, 60),
    picture(41, 120, seed=1),
    picture(32, 32, seed=2),
    picture(1, 1, seed=3),
    picture(100, 3, seed=4),
    picture(50, 50, seed=5, mode="L"),
    picture(64, 40, seed=6, mode="RGBA"),
    picture(64, 40, seed=7, mode="P"),
]


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as transformers runs it."""

    name: str
    folder: Path
    served: Served
    model: Any
    processor: Any

    def of_texts(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """The reference's unit vectors, one text at a time, padded as the model was trained."""
        padding: Any = True if self.model.config.model_type == "clip" else "max_length"
        rows = []
        for text in texts:
            inputs = self.processor(
                text=[text], padding=padding, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
            )
            with torch.inference_mode():
                rows.append(self.model.get_text_features(**inputs).pooler_output[0].numpy())
        return normalized(np.stack(rows))

    def of_images(self, images: list[Image.Image]) -> npt.NDArray[np.float32]:
        """The reference's unit vectors, one image at a time, by the processor's own settings."""
        rows = []
        for image in images:
            inputs = self.processor.image_processor(images=[image.convert("RGB")], return_tensors="pt")
            with torch.inference_mode():
                rows.append(self.model.get_image_features(**inputs).pooler_output[0].numpy())
        return normalized(np.stack(rows))


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = image_text_model(tmp_path_factory.mktemp(request.param), request.param)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    return Pair(request.param, folder, Served(folder), model, processor)


def _embed(served: Served, inputs: list[str | Image.Image | bytes], **options: Any) -> Array:
    """Vectors of texts and images that share a batch."""
    images = [
        None if isinstance(entry, str) else entry if isinstance(entry, bytes) else encoded(entry) for entry in inputs
    ]
    texts = [entry if isinstance(entry, str) else "" for entry in inputs]
    return served.embed(texts, images=images, **options)


def test_texts_have_the_references_vectors(pair: Pair) -> None:
    texts = [text for text in TEXTS if pair.name != "siglip" or "</s>" not in text]  # see `siglip_tokenizer`
    np.testing.assert_allclose(pair.served.embed(texts), pair.of_texts(texts), atol=TOLERANCE)


def test_images_have_the_references_vectors(pair: Pair) -> None:
    np.testing.assert_allclose(_embed(pair.served, [*PICTURES]), pair.of_images(PICTURES), atol=TOLERANCE)


def test_texts_and_images_share_a_batch_in_any_order(pair: Pair) -> None:
    inputs: list[str | Image.Image | bytes] = ["a mill", PICTURES[0], "a river that turns a wheel", PICTURES[3], "x"]
    together = _embed(pair.served, inputs)

    for row, entry in zip(together, inputs, strict=True):
        np.testing.assert_allclose(row, _embed(pair.served, [entry])[0], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_a_photograph_is_turned_upright_first(pair: Pair) -> None:
    lying = picture(90, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: shown rotated by 270 degrees
    photograph = encoded(lying, "PNG", exif=exif)

    upright = _embed(pair.served, [lying.transpose(Image.Transpose.ROTATE_270)])

    np.testing.assert_allclose(_embed(pair.served, [photograph]), upright, atol=TOLERANCE)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_is_read(pair: Pair, form: str) -> None:
    file = encoded(PICTURES[0], form)
    decoded = Image.open(io.BytesIO(file)).convert("RGB")

    np.testing.assert_allclose(_embed(pair.served, [file]), pair.of_images([decoded]), atol=TOLERANCE)


def _claiming(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header says that it is so large."""
    small = encoded(picture(8, 8))
    header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read"),
        (encoded(picture(60, 60))[:200], "damaged"),
        (encoded(Image.new("1", (MAX_PIXELS // 5000 + 1, 5000))), "is the most"),
        (_claiming(30_000, 30_000), "has 30000 x 30000 = 900,000,000 pixels; 50,000,000 is the most"),
        (encoded(Image.new("L", (MAX_ASPECT + 1, 1))), "too long a band"),
    ],
    ids=["no image", "cut off", "a bomb", "a greater bomb", "a band"],
)
def test_what_is_no_picture_is_refused_and_named(pair: Pair, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"input 1: the image .*{sentence}"):
        _embed(pair.served, ["a mill", data])


def test_a_prompt_is_put_in_front_of_texts_and_not_of_images(tmp_path: Path) -> None:
    # Given
    bare = image_text_model(tmp_path, "clip")
    reference = SentenceTransformer(str(bare), local_files_only=True)
    options = {"prompt": "the river ", "normalize_embeddings": True}
    texts, images = ["the wheel"], PICTURES[:1]

    # When
    together = _embed(Served(bare), [*texts, *images], prompt="the river ")

    # Then
    np.testing.assert_allclose(together[:1], reference.encode(texts, **options), atol=TOLERANCE)
    np.testing.assert_allclose(together[1:], reference.encode([*images], **options), atol=TOLERANCE)
    assert np.abs(together[:1] - reference.encode(texts, normalize_embeddings=True)).max() > 1e-3


def test_clip_folders_of_sentence_transformers_old_and_new(tmp_path: Path) -> None:
    bare = image_text_model(tmp_path, "clip")
    reference = SentenceTransformer(str(bare), local_files_only=True)
    reference.save_pretrained(str(tmp_path / "new"), create_model_card=False)
    old = tmp_path / "old"
    (old / "0_CLIPModel").mkdir(parents=True)
    for file in bare.iterdir():
        (old / "0_CLIPModel" / file.name).write_bytes(file.read_bytes())
    (old / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]'
    )
    texts, images = ["a mill by the river", "x"], PICTURES[:2]
    expected = [np.asarray(reference.encode(inputs, normalize_embeddings=True)) for inputs in (texts, images)]

    for folder in (tmp_path / "new", old):
        served = Served(folder)
        np.testing.assert_allclose(served.embed(texts), expected[0], atol=TOLERANCE)
        np.testing.assert_allclose(_embed(served, [*images]), expected[1], atol=TOLERANCE)


def test_modules_dimensions_prompts_and_length_of_the_folder_are_kept(tmp_path: Path) -> None:
    # Given
    transformer = Transformer(str(image_text_model(tmp_path, "clip")), max_seq_length=9)
    dense = Dense(transformer.get_embedding_dimension(), 12)
    SentenceTransformer(
        modules=[transformer, dense, Normalize()],
        prompts={"query": "the river ", "photo": "a photo of "},
        default_prompt_name="photo",
        truncate_dim=7,
        device="cpu",
    ).save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    reference, served = SentenceTransformer(str(tmp_path / "saved"), device="cpu"), Served(tmp_path / "saved")
    texts = ["a mill by the river", "the wheel of the mill turns in the water of the river", "x"]
    options = {"normalize_embeddings": True, "batch_size": 1}

    # Then
    for vectors, expected in (
        (served.embed(texts), reference.encode(texts, **options)),
        (served.embed(texts, input_type="query"), reference.encode_query(texts, **options)),
        (_embed(served, [*PICTURES]), reference.encode([image.convert("RGB") for image in PICTURES], **options)),
    ):
        np.testing.assert_allclose(vectors, np.asarray(expected), atol=TOLERANCE)
    assert (served.card.dimensions, served.card.prompts, served.card.max_tokens) == (7, ["query", "photo"], 9)


def test_a_module_that_is_not_served_is_named(tmp_path: Path) -> None:
    folder = image_text_model(tmp_path, "clip")
    (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_CNN", "type": "sentence_transformers.models.CNN"}]'
    )

    with pytest.raises(ConfigurationError, match=r"module CNN of its modules\.json is not supported"):
        Served(folder)


def test_a_processor_that_makes_images_of_another_size_is_named_at_start(tmp_path: Path) -> None:
    folder = image_text_model(tmp_path, "clip")
    described = json.loads((folder / "preprocessor_config.json").read_text())
    described["crop_size"] = {"height": 24, "width": 24}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))

    with pytest.raises(ConfigurationError, match=r"model model cannot be run: .*\(24\*24\)"):
        Served(folder)


def test_half_precision_points_the_same_way(pair: Pair) -> None:
    inputs: list[str | Image.Image | bytes] = ["a mill by the river", *PICTURES[:3]]

    cosines = (_embed(Served(pair.folder, dtype="bfloat16"), inputs) * _embed(pair.served, inputs)).sum(axis=1)

    assert cosines.min() > 0.99


def test_the_card_says_that_images_are_read(pair: Pair) -> None:
    assert pair.served.card.modalities == ["text", "image"]
    assert not pair.served.card.packed


def test_a_model_without_eyes_refuses_images(tmp_path: Path) -> None:
    served = Served(embedding_model(tmp_path, "bert"))

    with pytest.raises(WrongTask, match="takes no images"):
        _embed(served, [PICTURES[0]])
