"""EmbeddingGemma 2 gives transformers' states, pooled: of texts and images, alone and in one packed batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from shared.errors import ContradictoryFields, InputTooLong, WrongTask
from shared.jobs import EmbedRequest
from shared.model_config import ConfigurationError
from shared.results import Kind
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Array, Served
from tests.helpers.tiny_embedding_gemma2 import MAX_TOKENS, embedding_gemma2
from tests.helpers.tiny_image_models import encoded, picture
from workers.images import ImageReader
from workers.scoring import normalized

TOLERANCE = 1e-5
#: Wide, tall, square, tiny, a band, in grey, with transparency.
PICTURES = [
    picture(90, 60),
    picture(41, 120, seed=1),
    picture(64, 64, seed=2),
    picture(2, 3, seed=3),
    picture(300, 9, seed=4),
    picture(50, 50, seed=5, mode="L"),
    picture(64, 40, seed=6, mode="RGBA"),
]


@dataclass(frozen=True)
class Pair:
    """One model twice: as we serve it, and as transformers runs it."""

    folder: Path
    served: Served
    model: Any
    tokenizer: Any
    processor: Any

    @torch.inference_mode()
    def _vector(self, ids: list[int], **seen: Any) -> npt.NDArray[np.float32]:
        states = self.model(input_ids=torch.tensor([ids]), **seen).last_hidden_state[0]
        mean: npt.NDArray[np.float32] = states.float().mean(dim=0).numpy()
        return mean

    def of_texts(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """The reference's unit vectors, one text at a time."""
        cut = {"truncation": True, "max_length": MAX_TOKENS}
        return normalized(np.stack([self._vector(self.tokenizer(text, **cut)["input_ids"]) for text in texts]))

    def of_images(self, images: list[Image.Image], prompt: str = "") -> npt.NDArray[np.float32]:
        """The same of images, prepared as `EmbeddingGemma2Processor` does, a prompt in front."""
        rows = []
        for image in images:
            seen = self.processor(image.convert("RGB"), return_tensors="pt")
            (count,) = seen.pop("num_soft_tokens_per_image")
            ids = self.tokenizer(prompt + "<|image>" + "<|image|>" * int(count) + "<image|>")["input_ids"]
            rows.append(self._vector(ids, **seen))
        return normalized(np.stack(rows))


@pytest.fixture(scope="module", params=[True, False], ids=["sentence-transformers' files", "bare"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = embedding_gemma2(tmp_path_factory.mktemp("gemma"), modules=request.param)
    return Pair(
        folder,
        Served(folder),
        AutoModel.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
        Gemma4ImageProcessorPil.from_pretrained(folder),
    )


def _embed(served: Served, inputs: list[str | Image.Image], **options: Any) -> Array:
    images = [None if isinstance(entry, str) else encoded(entry) for entry in inputs]
    return served.embed([entry if isinstance(entry, str) else "" for entry in inputs], images=images, **options)


def test_the_card_says_what_it_reads_and_gives(pair: Pair) -> None:
    card = pair.served.card

    assert (card.packed, card.modalities, card.dimensions, card.pooling) == (True, ["text", "image"], 24, "mean")
    assert card.max_tokens == MAX_TOKENS


def test_texts_have_the_references_vectors_alone_and_together(pair: Pair) -> None:
    expected = pair.of_texts(TEXTS)

    np.testing.assert_allclose(pair.served.embed(TEXTS), expected, atol=TOLERANCE)
    alone = np.concatenate([pair.served.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=TOLERANCE)


def test_images_have_the_references_vectors_alone_and_together(pair: Pair) -> None:
    expected = pair.of_images(PICTURES)

    np.testing.assert_allclose(_embed(pair.served, [*PICTURES]), expected, atol=TOLERANCE)
    alone = np.concatenate([_embed(pair.served, [image]) for image in PICTURES])
    np.testing.assert_allclose(alone, expected, atol=TOLERANCE)


def test_texts_and_images_share_a_batch_in_any_order(pair: Pair) -> None:
    inputs: list[str | Image.Image] = [
        "a mill",
        PICTURES[0],
        "a river that turns a wheel",
        PICTURES[3],
        PICTURES[1],
        "x",
    ]
    together = _embed(pair.served, inputs)

    for row, entry in zip(together, inputs, strict=True):
        np.testing.assert_allclose(row, _embed(pair.served, [entry])[0], atol=1e-6)
    assert np.abs(together[1] - together[3]).max() > 1e-2


def test_a_text_that_spells_an_image_out_shows_none(pair: Pair) -> None:
    texts = ["see <|image|> and <|video|> here", "<|audio|>"]

    np.testing.assert_allclose(pair.served.embed(texts), pair.of_texts(texts), atol=TOLERANCE)


def test_a_prompt_goes_before_texts_and_images(pair: Pair, tmp_path: Path) -> None:
    served, prompt = Served(embedding_gemma2(tmp_path)), "task: search result | query: "

    prompted = pair.of_texts([prompt + "a mill"])
    np.testing.assert_allclose(served.embed(["a mill"], input_type="query"), prompted, atol=TOLERANCE)
    seen = _embed(served, [PICTURES[0], PICTURES[1]], input_type="query")
    np.testing.assert_allclose(seen, pair.of_images(PICTURES[:2], prompt), atol=TOLERANCE)


def test_an_image_that_does_not_fit_behind_its_prompt_is_refused(pair: Pair) -> None:
    with pytest.raises(InputTooLong, match=f"input 0 has .* tokens with its prompt.* {MAX_TOKENS} is the most"):
        _embed(pair.served, [PICTURES[0]], prompt="mill " * 100)


def test_late_chunking_is_the_mean_of_each_chunks_states(pair: Pair) -> None:
    # Given
    chunks = ["The mill stands", " by the river.", " It is old."]
    document = pair.tokenizer("".join(chunks), return_offsets_mapping=True)
    ends = np.cumsum([len(chunk) for chunk in chunks])
    owners = [int(np.searchsorted(ends, end)) for _, end in document["offset_mapping"]]
    owners[-1] = 2  # the end of text, whose place is nowhere
    with torch.inference_mode():
        states = pair.model(input_ids=torch.tensor([document["input_ids"]])).last_hidden_state[0].numpy()
    expected = normalized(np.stack([states[[owner == at for owner in owners]].mean(axis=0) for at in range(3)]))

    # Then
    np.testing.assert_allclose(pair.served.embed(chunks, late_chunking=True), expected, atol=TOLERANCE)


def test_a_document_of_chunks_and_an_image_share_a_batch(pair: Pair) -> None:
    # Given
    chunks = ["The mill stands", " by the river.", " It is old."]
    request = EmbedRequest(request_id="r", deadline=0, texts=chunks, late_chunking=True)
    (document,) = pair.served.tokenizer.encode_request(request)
    (image,) = pair.served.tokenizer.encode([""], pixels=[ImageReader(str(pair.folder)).read(encoded(PICTURES[1]))])

    # When
    vectors = normalized(pair.served.forward([document, image, document], [Kind.DENSE])[Kind.DENSE].values)

    # Then
    expected = pair.served.embed(chunks, late_chunking=True)
    np.testing.assert_allclose(vectors[[0, 1, 2, 4, 5, 6]], np.concatenate([expected, expected]), atol=1e-6)
    np.testing.assert_allclose(vectors[3], pair.of_images([PICTURES[1]])[0], atol=TOLERANCE)


def test_late_chunking_takes_no_images(pair: Pair) -> None:
    with pytest.raises(ContradictoryFields, match="`late_chunking` takes texts only"):
        _embed(pair.served, [PICTURES[0], "It is old."], late_chunking=True)


def test_images_in_bfloat16_are_as_near_as_the_references(pair: Pair) -> None:
    # Given
    exact = pair.of_images(PICTURES)
    half = Pair(
        pair.folder,
        Served(pair.folder, dtype="bfloat16"),
        AutoModel.from_pretrained(pair.folder, dtype=torch.bfloat16).eval(),
        pair.tokenizer,
        pair.processor,
    )

    # Then
    ours, references = _embed(half.served, [*PICTURES]), half.of_images(PICTURES)
    errors = [1 - (vectors * exact).sum(axis=1).mean() for vectors in (ours, references)]
    assert errors[0] < max(1.5 * errors[1], 1e-4)


def test_an_image_costs_its_patches_beside_its_tokens(pair: Pair) -> None:
    image = EmbedRequest(request_id="r", deadline=0, texts=[""], images=[encoded(picture(64, 64))])

    assert pair.served.answer(image).tokens == 64 + 4 + 64 * 9


def test_a_folder_without_a_vision_tower_reads_texts_only(tmp_path: Path) -> None:
    # Given
    folder = embedding_gemma2(tmp_path)
    config = folder / "config.json"
    model = AutoModel.from_pretrained(folder)
    model.config.vision_config = model.config.audio_config = None
    expected = Served(folder).embed(TEXTS)
    model.config.save_pretrained(folder)
    assert "gemma4_vision" not in config.read_text()

    # When
    served = Served(folder)

    # Then
    assert served.card.modalities == ["text"]
    np.testing.assert_allclose(served.embed(TEXTS), expected, atol=1e-6)
    with pytest.raises(WrongTask, match="takes no images"):
        _embed(served, [PICTURES[0]])


def test_modules_that_do_not_pool_are_refused(tmp_path: Path) -> None:
    folder = embedding_gemma2(tmp_path)
    listed = (folder / "modules.json").read_text().replace("1_Pooling", "2_Normalize").replace(".Pooling", ".Normalize")
    (folder / "modules.json").write_text(listed)

    with pytest.raises(ConfigurationError, match=r"modules\.json does not pool"):
        Served(folder)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"template": "user: {{ messages[-1].content[0].text }}"}, "its chat template does more than to put a prompt"),
        ({"processing": {"image": {"max_soft_tokens": 280}}}, "the processing_kwargs of images"),
    ],
)
def test_what_is_not_done_with_inputs_here_is_refused(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Served(embedding_gemma2(tmp_path, **options))
