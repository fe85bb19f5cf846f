"""Inputs that are texts or images, as different clients write them."""

from typing import Any

import pytest

from api.inputs import ContentInput, MixedInput, separated
from shared.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": "a"}, ("a", None)),
        ({"type": "text", "value": "a"}, ("a", None)),
        ({"image": "https://h/i.png"}, ("", "https://h/i.png")),
        ({"type": "image", "url": "https://h/i.png"}, ("", "https://h/i.png")),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, ("", "data:image/png;base64,AA==")),
        ({"type": "image_url", "image_url": "https://h/i.png"}, ("", "https://h/i.png")),
        ({"text": "a", "image": "i"}, ("a", "i")),
    ],
)
def test_every_clients_words_mean_the_same(given: dict[str, Any], expected: tuple[str, str | None]) -> None:
    assert MixedInput.model_validate(given).text_and_image() == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a", ("a", None)),
        ([{"type": "text", "text": "a"}], ("a", None)),
        ([{"type": "image_url", "image_url": {"url": "i"}}, {"type": "text", "text": "a"}], ("a", "i")),
    ],
)
def test_the_parts_of_a_content_are_one_input(content: Any, expected: tuple[str, str | None]) -> None:
    assert ContentInput.model_validate({"content": content}).text_and_image() == expected


@pytest.mark.parametrize("given", [{}, {"type": "image"}])
def test_neither_a_text_nor_an_image_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match='a "text" nor an "image"'):
        MixedInput.model_validate(given).text_and_image()


def test_so_is_a_part_that_is_empty_beside_one_that_is_not() -> None:
    with pytest.raises(InvalidRequest, match='a "text" nor an "image"'):
        ContentInput.model_validate({"content": [{"text": "a"}, {"txt": "b"}]}).text_and_image()


@pytest.mark.parametrize("parts", [[{"text": "a"}, {"text": "b"}], [{"image": "a", "url": "b"}], [{"image": "a"}] * 2])
def test_several_of_a_kind_are_refused(parts: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest, match="more than one text or one image"):
        ContentInput.model_validate({"content": parts}).text_and_image()


def test_texts_and_images_keep_their_places() -> None:
    assert separated(["a", MixedInput(image="i"), MixedInput(text="b")]) == (["a", "", "b"], [None, "i", None])
    assert separated(["a", MixedInput(text="b")]) == (["a", "b"], None)
