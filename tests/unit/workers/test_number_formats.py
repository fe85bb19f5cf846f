"""Number formats: the smallest that a card and a model can bear."""

import pytest

from workers import number_formats


@pytest.mark.parametrize(
    ("capability", "model_type", "expected"),
    [
        ((9, 0), "bert", "bfloat16"),
        ((8, 0), "qwen3", "bfloat16"),
        ((7, 5), "xlm-roberta", "float16"),
        ((7, 5), "qwen3", "float32"),
        ((7, 0), "gemma3_text", "float32"),
        ((7, 5), "t5", "float32"),
        ((6, 1), "bert", "float32"),
        ((9, 0), "xlnet", "float32"),
    ],
    ids=str,
)
def test_a_card_runs_a_model_in_the_smallest_format_that_holds_its_numbers(
    capability: tuple[int, int], model_type: str, expected: str
) -> None:
    assert number_formats.chosen("auto", capability, model_type) == expected


def test_a_cpu_runs_float32() -> None:
    assert number_formats.chosen("auto", None, "bert") == "float32"


@pytest.mark.parametrize("capability", [None, (6, 1), (9, 0)])
def test_what_was_asked_for_is_taken(capability: tuple[int, int] | None) -> None:
    assert number_formats.chosen("float16", capability, "qwen3") == "float16"
