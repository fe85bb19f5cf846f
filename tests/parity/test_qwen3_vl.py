"""Qwen3-VL-Embedding gives the vectors of Qwen's own procedure, and of sentence-transformers where the two agree.

The procedure is `Qwen3VLEmbedder.process` of QwenLM/Qwen3-VL-Embedding, one input at a time, with transformers' processor
and model.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor

from shared.errors import InputTooLong, InvalidRequest
from shared.jobs import EmbedRequest
from shared.model_config import ConfigurationError
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Array, Served
from tests.helpers.tiny_image_models import encoded, picture
from tests.helpers.tiny_qwen3_vl import (
    DEFAULT_INSTRUCTION,
    DIMENSIONS,
    MAX_TOKENS,
    PROMPTS,
    TEMPLATE,
    PilProcessor,
    processor_of,
    qwen3_vl,
)
from workers.families.qwen3_vl import PLUGIN, image_positions
from workers.images import ImageReader
from workers.scoring import normalized

TOLERANCE = 1e-5
#: Qwen's `MIN_PIXELS` and `MAX_PIXELS`.
PIXELS = {"shortest_edge": 4 * 32 * 32, "longest_edge": 1800 * 32 * 32}
#: Wide, tall, of the same size with something else in it, square, tiny, a line, in grey, with transparency, from a palette.
PICTURES = [
    picture(90, 60),
    picture(41, 220, seed=1),
    picture(90, 60, seed=2),
    picture(64, 64, seed=3),
    picture(1, 1, seed=4),
    picture(100, 3, seed=5),
    picture(50, 50, seed=6, mode="L"),
    picture(300, 200, seed=7, mode="RGBA"),
    picture(64, 40, seed=8, mode="P"),
]
#: Nothing; what the template must take as words, though it has meanings for it; and space beside the template's own.
ODD_TEXTS = [
    "",
    "{instruction} {input}",
    "<|im_end|>\n<|im_start|>assistant\n",
    "\n\nblank lines around\n\n",
    "  ",
]


@dataclass(frozen=True)
class Reference:
    """The procedure of Qwen's repository."""

    processor: PilProcessor
    model: Any

    def inputs(
        self, text: str = "", image: Image.Image | None = None, instruction: str | None = None
    ) -> dict[str, torch.Tensor]:
        """What the model gets."""
        if instruction:
            instruction = instruction.strip()
            if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
                instruction = instruction + "."
        content: list[dict[str, Any]] = []
        if image is not None:
            content.append({"type": "image", "image": image})
        if text:
            content.append({"type": "text", "text": text})
        if not content:
            content.append({"type": "text", "text": "NULL"})
        conversation = [
            {"role": "system", "content": [{"type": "text", "text": instruction or DEFAULT_INSTRUCTION}]},
            {"role": "user", "content": content},
        ]
        rendered = self.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        images = None if image is None else [image.convert("RGB")]
        inputs: dict[str, torch.Tensor] = self.processor(
            text=[rendered], images=images, images_kwargs={"size": PIXELS}, return_tensors="pt"
        )
        return inputs

    def vector(self, text: str = "", image: Image.Image | None = None, instruction: str | None = None) -> Array:
        """The unit vector of one input."""
        return self.state(self.inputs(text, image, instruction))

    def state(self, inputs: dict[str, torch.Tensor]) -> Array:
        """The last token's state, of unit length."""
        with torch.inference_mode():
            states = self.model(**inputs).last_hidden_state
        return normalized(states[:, -1].float().numpy())[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_vl(tmp_path_factory.mktemp("qwen3_vl"))


@pytest.fixture(scope="module")
def served(folder: Path) -> Served:
    return Served(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(processor_of(folder), AutoModel.from_pretrained(folder).eval())


def _embed(served: Served, inputs: Sequence[str | Image.Image | tuple[Image.Image, str]], **options: Any) -> Array:
    """Vectors of texts, images, and images with texts, that share a batch."""
    pairs = [(None, x) if isinstance(x, str) else (x, "") if isinstance(x, Image.Image) else x for x in inputs]
    images = [None if image is None else encoded(image) for image, _ in pairs]
    return served.embed([text for _, text in pairs], images=images, **options)


def test_texts_have_the_references_vectors(served: Served, reference: Reference) -> None:
    texts = [*TEXTS, *ODD_TEXTS]

    np.testing.assert_allclose(served.embed(texts), [reference.vector(text) for text in texts], atol=TOLERANCE)


def test_images_have_the_references_vectors(served: Served, reference: Reference) -> None:
    expected = np.stack([reference.vector(image=image) for image in PICTURES])

    np.testing.assert_allclose(_embed(served, PICTURES), expected, atol=TOLERANCE)
    # and they differ by what can be seen, not by size alone
    assert np.abs(expected[0] - expected[2]).max() > 1e-2


def test_an_image_may_have_a_text_beside_it(served: Served, reference: Reference) -> None:
    pairs = [(PICTURES[0], "a mill"), (PICTURES[1], "x")]

    np.testing.assert_allclose(
        _embed(served, pairs), [reference.vector(text, image) for image, text in pairs], atol=TOLERANCE
    )


def test_the_images_token_in_a_text_or_a_prompt_is_a_word_and_no_image(
    folder: Path, served: Served, reference: Reference
) -> None:
    # Given what transformers' processor refuses, since it has no image for it
    words = "an <|image_pad|> of"
    rendered = reference.processor.tokenizer.apply_chat_template(
        [{"role": role, "content": [{"type": "text", "text": f"{words}."}]} for role in ("system", "user")],
        add_generation_prompt=True,
        return_tensors="pt",
    )
    # When it shares a batch with an image, and stands in its instruction and in its text
    vectors = _embed(served, [f"{words}.", PICTURES[0], (PICTURES[0], words)], prompt=words)

    # Then it is embedded as it is, and the image is where it was
    np.testing.assert_allclose(vectors[0], reference.state(rendered), atol=TOLERANCE)
    np.testing.assert_allclose(_embed(served, [PICTURES[0]], prompt=words)[0], vectors[1], atol=TOLERANCE)
    image = ImageReader(str(folder)).read(encoded(PICTURES[0]))
    (tokens,) = served.tokenizer.encode([words], prompt=words, pixels=[image])
    config = reference.model.config
    at, count = tokens.image_at or 0, len(image.values) // 4
    assert tokens.ids[at - 1 : at + count + 1] == [
        config.vision_start_token_id,
        *[config.image_token_id] * count,
        config.vision_end_token_id,
    ]


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1500, 1120), 35 * 47), ((2400, 1800), 1728), ((4000, 30), 125), ((10, 10), 4)],
    ids=["above the processor's limit", "above the limit", "a band", "below"],
)
def test_an_image_is_scaled_within_qwens_limits(
    served: Served, reference: Reference, size: tuple[int, int], tokens: int
) -> None:
    image = picture(*size)
    inputs = reference.inputs(image=image)
    counted = int((inputs["input_ids"] == reference.model.config.image_token_id).sum())
    output = served.answer(EmbedRequest(request_id="r", deadline=0, texts=[""], images=[encoded(image)]))

    assert counted == tokens
    assert output.tokens == inputs["input_ids"].shape[1], "an image costs what it is in tokens, the template included"
    np.testing.assert_allclose(_embed(served, [image])[0], reference.state(inputs), atol=TOLERANCE)


def test_whatever_shares_a_batch_changes_nothing(served: Served) -> None:
    # The same image twice, another one of its size, an image with a text, and texts that begin alike, in no order
    inputs: list[str | Image.Image | tuple[Image.Image, str]] = [
        PICTURES[0],
        "a mill",
        PICTURES[2],
        (PICTURES[1], "a mill by the river"),
        PICTURES[0],
        "a mill by the river",
        PICTURES[4],
        "",
        (PICTURES[1], "a mill"),
        "a mill",
    ]
    together = _embed(served, inputs)

    for row, entry in zip(together, inputs, strict=True):
        np.testing.assert_allclose(row, _embed(served, [entry])[0], atol=TOLERANCE)
    np.testing.assert_allclose(together[0], together[4], atol=1e-6)
    assert np.abs(together[0] - together[2]).max() > 1e-2


@pytest.mark.parametrize(
    "prompt",
    ["Find the mill", "Find the mill.", " Find the mill? \n", "找到磨坊。", "Find the mill 1", "", "  "],
)
def test_a_prompt_is_the_instruction_and_ends_in_punctuation(served: Served, reference: Reference, prompt: str) -> None:
    vectors = _embed(served, ["a mill", PICTURES[0]], prompt=prompt)

    np.testing.assert_allclose(vectors[0], reference.vector("a mill", instruction=prompt), atol=TOLERANCE)
    np.testing.assert_allclose(vectors[1], reference.vector(image=PICTURES[0], instruction=prompt), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("options", "instruction"),
    [
        ({"prompt_name": "query"}, PROMPTS["query"]),
        ({"input_type": "query"}, PROMPTS["query"]),
        ({"input_type": "document"}, DEFAULT_INSTRUCTION),
        ({"input_type": "query", "prompt": "Find it"}, "Find it."),
        ({}, DEFAULT_INSTRUCTION),
    ],
    ids=["by name", "of queries", "of documents", "in words", "none"],
)
def test_prompts_are_chosen_as_everywhere(
    served: Served, reference: Reference, options: dict[str, str], instruction: str
) -> None:
    vectors = _embed(served, ["a mill", PICTURES[0]], **options)

    np.testing.assert_allclose(vectors[0], reference.vector("a mill", None, instruction), atol=TOLERANCE)
    np.testing.assert_allclose(vectors[1], reference.vector("", PICTURES[0], instruction), atol=TOLERANCE)


def test_a_prompt_that_is_not_there_is_named(served: Served) -> None:
    with pytest.raises(InvalidRequest, match="has no prompt 'passage'; it has: query, default"):
        served.embed(["a mill"], prompt_name="passage")


def test_documents_are_ranked_by_the_querys_instruction(served: Served, reference: Reference) -> None:
    query = reference.vector("which mill?", instruction=PROMPTS["query"])
    expected = [float(reference.vector(text) @ query) for text in ("a mill", "a river")]

    np.testing.assert_allclose(served.rerank("which mill?", ["a mill", "a river"]), expected, atol=TOLERANCE)


def test_a_long_text_is_cut_and_the_template_is_not(tmp_path: Path) -> None:
    most = 90
    folder = qwen3_vl(tmp_path, max_tokens=most)
    served = Served(folder)
    reference = Reference(processor_of(folder), AutoModel.from_pretrained(folder).eval())
    # Given a text of exactly the longest length, one token more, and many more
    room = most - reference.inputs("7")["input_ids"].shape[1] + 1
    texts = ["7" * room, "7" * (room + 1), "7" * room * 400]
    whole = reference.inputs(texts[0])["input_ids"]
    assert whole.shape[1] == most

    output = served.answer(EmbedRequest(request_id="r", deadline=0, texts=texts))
    rows = np.frombuffer(output.data, "<f4").reshape(output.shape)

    # Then all are what fits, with the template's end
    np.testing.assert_allclose(rows, [reference.vector(texts[0])] * 3, atol=TOLERANCE)
    assert output.truncated == 2
    with pytest.raises(InputTooLong, match=f"input 0 has {most + 1} tokens"):
        served.embed([texts[1]], truncate=False)


@pytest.mark.parametrize(
    ("inputs", "options", "index"),
    [(["a", picture(400, 400)], {}, 1), (["a mill"], {"prompt": "find it " * 99}, 0)],
    ids=["an image", "a prompt"],
)
def test_what_cannot_be_cut_is_refused(
    tmp_path: Path, inputs: list[str | Image.Image], options: dict[str, str], index: int
) -> None:
    served = Served(qwen3_vl(tmp_path, max_tokens=90))

    with pytest.raises(InputTooLong, match=rf"input {index} has at least \d+ tokens with its prompt.* 90 is the most"):
        _embed(served, inputs, **options)


class TestSentenceTransformers:
    """It reads the same folder; where it has its own ways (punctuation, empty texts, larger images) Qwen's code counts."""

    @pytest.fixture
    def model(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
        # Without torchvision transformers finds no processor for it, only ours without videos.
        monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: processor_of(folder))
        return SentenceTransformer(str(folder), local_files_only=True)

    @pytest.mark.parametrize("name", [None, "query", "default"])
    def test_texts_and_images(self, served: Served, model: SentenceTransformer, name: str | None) -> None:
        texts = [text for text in [*TEXTS, *ODD_TEXTS] if text]
        inputs: list[Any] = [*texts, *(image.convert("RGB") for image in PICTURES)]

        vectors = [model.encode([entry], prompt_name=name)[0] for entry in inputs]

        np.testing.assert_allclose(_embed(served, inputs, prompt_name=name), vectors, atol=TOLERANCE)

    def test_an_image_with_a_text(self, served: Served, model: SentenceTransformer) -> None:
        vector = model.encode([{"image": PICTURES[0], "text": "a mill"}], prompt="Find it.")  # type: ignore[list-item]

        np.testing.assert_allclose(_embed(served, [(PICTURES[0], "a mill")], prompt="Find it."), vector, atol=TOLERANCE)

    def test_long_texts(self, served: Served, model: SentenceTransformer) -> None:
        text = " ".join(TEXTS) * 20
        assert len(model.tokenizer(text)["input_ids"]) > MAX_TOKENS

        np.testing.assert_allclose(served.embed([text]), model.encode([text]), atol=TOLERANCE)

    @pytest.mark.usefixtures("model")
    def test_dimensions_and_length_of_the_folder(self, tmp_path: Path) -> None:
        folder = qwen3_vl(tmp_path)
        for name, field in (
            ("config_sentence_transformers", {"truncate_dim": 8}),
            ("sentence_bert_config", {"max_seq_length": 60}),
        ):
            path = folder / f"{name}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | field))
        model, served = SentenceTransformer(str(folder), local_files_only=True), Served(folder)
        model.max_seq_length = 60  # the processor without videos is not told
        texts = [*filter(None, TEXTS), " ".join(TEXTS)]

        vectors = model.encode(texts, batch_size=1, normalize_embeddings=True)

        np.testing.assert_allclose(served.embed(texts), vectors, atol=TOLERANCE)
        assert (served.card.dimensions, served.card.max_tokens) == (8, 60)

    @pytest.mark.usefixtures("model")
    @pytest.mark.parametrize(
        "prompts", [PROMPTS, {"default": "Say it."}, {"default": "Say it.", "passage": "Keep it."}]
    )
    def test_rankings(self, tmp_path: Path, prompts: dict[str, str]) -> None:
        folder = qwen3_vl(tmp_path)
        (folder / "config_sentence_transformers.json").write_text(
            json.dumps({"prompts": prompts, "default_prompt_name": "default"})
        )
        model, served = SentenceTransformer(str(folder), local_files_only=True), Served(folder)
        documents = ["a mill", "a river"]

        # By itself the reference takes the empty `document` that it adds to what the folder has
        name = "passage" if "passage" in prompts else None
        scores = model.encode_document(documents, prompt_name=name) @ model.encode_query("which mill?")

        np.testing.assert_allclose(served.rerank("which mill?", documents), scores, atol=TOLERANCE)
        np.testing.assert_allclose(served.embed(documents), model.encode(documents), atol=TOLERANCE)


def test_positions_are_the_references_also_of_several_images_in_one_input(reference: Reference) -> None:
    # Given inputs of so many text tokens, and images of so many rows and columns of tokens, with texts between them
    inputs: list[list[int | tuple[int, int]]] = [
        [5],
        [3, (2, 3), 4],
        [2, (1, 4), 1, (5, 2), 3, (2, 2), 6],
        [1, (3, 3), 2],
    ]
    token = reference.model.config.image_token_id
    ids = [
        [i for part in parts for i in ([1] * part if isinstance(part, int) else [token] * np.prod(part))]
        for parts in inputs
    ]
    grids = [[part for part in parts if isinstance(part, tuple)] for parts in inputs]
    expected = []
    for row, of_row in zip(ids, grids, strict=True):
        tensor = torch.tensor([row])
        sizes = torch.tensor([(1, 2 * rows, 2 * columns) for rows, columns in of_row]) if of_row else None
        expected.append(reference.model.get_rope_index(tensor, (tensor == token).int(), sizes)[0][:, 0].numpy())
    everything = np.concatenate(ids)
    begins = np.flatnonzero((everything == token) & (np.roll(everything, 1) != token))

    positions = image_positions(
        np.concatenate([np.arange(len(row)) for row in ids]),
        np.cumsum([0, *map(len, ids)]).astype(np.int32),
        begins.astype(np.int32),
        np.array([grid for of_row in grids for grid in of_row], np.int32),
    )

    np.testing.assert_array_equal(positions, np.concatenate(expected, axis=1))


def test_half_precision_points_the_same_way(folder: Path, served: Served, reference: Reference) -> None:
    inputs = ["a mill by the river", "x", *PICTURES[:4]]
    exact = _embed(served, inputs)
    theirs = Reference(reference.processor, AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval())
    of_theirs = [theirs.vector(x) if isinstance(x, str) else theirs.vector(image=x) for x in inputs]

    ours = (_embed(Served(folder, dtype="bfloat16"), inputs) * exact).sum(axis=1)

    assert ours.min() > min(0.999, (np.stack(of_theirs) * exact).sum(axis=1).min() - 0.001)


def test_a_folder_of_transformers_alone_has_qwens_defaults(tmp_path: Path, reference: Reference) -> None:
    # Given the published weights before April 2026: no sentence-transformers, and a template without an instruction
    instruction = TEMPLATE[: TEMPLATE.index("{%- for")]
    served = Served(qwen3_vl(tmp_path, template=TEMPLATE.removeprefix(instruction), sentence_transformers=False))

    np.testing.assert_allclose(served.embed(["a mill"])[0], reference.vector("a mill"), atol=TOLERANCE)
    assert served.card.prompts == []


def test_a_template_in_the_older_file_is_read(tmp_path: Path, reference: Reference) -> None:
    folder = qwen3_vl(tmp_path)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))

    np.testing.assert_allclose(Served(folder).embed(["a mill"])[0], reference.vector("a mill"), atol=TOLERANCE)


def test_a_folders_own_instruction_is_its_default(tmp_path: Path, reference: Reference) -> None:
    template = TEMPLATE.replace(DEFAULT_INSTRUCTION, "Look at this.")
    served = Served(qwen3_vl(tmp_path, template=template, sentence_transformers=False))

    expected = reference.vector("a mill", instruction="Look at this.")

    np.testing.assert_allclose(served.embed(["a mill"])[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "contents", "sentence"),
    [
        ("1_Pooling/config.json", {"embedding_dimension": DIMENSIONS, "pooling_mode": "mean"}, "last token only"),
        ("modules.json", [{"type": "a.b.Dense", "path": "3_Dense"}], "its module Dense is not served"),
        ("sentence_bert_config.json", {"modality_config": {"text": {}}}, "puts no `message` through"),
        ("chat_template.jinja", "{{ messages[0].content[0].text | trim }}", "no place of its own"),
        ("chat_template.jinja", TEMPLATE.replace("part.text", "part.text | trim"), "does more with an instruction"),
    ],
    ids=["pooling", "a dense layer", "bare texts", "a template without places", "a template that trims"],
)
def test_a_folder_that_wants_something_else_is_refused(tmp_path: Path, name: str, contents: Any, sentence: str) -> None:
    folder = qwen3_vl(tmp_path)
    (folder / name).write_text(contents if isinstance(contents, str) else json.dumps(contents))

    with pytest.raises(ConfigurationError, match=sentence):
        Served(folder)


def test_the_card_says_what_it_does(served: Served) -> None:
    card = served.card

    assert card.modalities == ["text", "image"]
    assert (card.packed, card.pooling, card.dimensions, card.max_tokens) == (True, "lasttoken", DIMENSIONS, MAX_TOKENS)
    assert card.prompts == ["query", "default"]


def test_rerankers_of_the_same_type_are_left_alone() -> None:
    models = Path("/models")

    assert PLUGIN.serves(models / "Qwen3-VL-Embedding-2B", {"model_type": "qwen3_vl"})
    assert not PLUGIN.serves(models / "Qwen3-VL-Reranker-2B", {"model_type": "qwen3_vl"})
