"""Prompts: every client's word for a purpose is known, and means one row of the models' table."""

import pytest

from api.prompts import PURPOSES, PromptFields, purpose_of
from shared.errors import ContradictoryFields, InvalidRequest


@pytest.mark.parametrize(
    ("words", "input_type"),
    [
        (("query", "search_query", "retrieval.query"), "query"),
        (("document", "passage", "search_document", "retrieval.passage"), "document"),
    ],
)
def test_the_two_sides_of_a_search_have_many_names_and_one_meaning(words: tuple[str, ...], input_type: str) -> None:
    (purpose,) = {id(purpose_of(word, "task")): purpose_of(word, "task") for word in words}.values()

    assert purpose.input_type == input_type


def test_other_purposes_are_no_side_of_a_search_and_have_prompts_of_their_own() -> None:
    for word in ("classification", "clustering", "separation", "text-matching"):
        assert purpose_of(word, "task").input_type is None
        assert word in purpose_of(word, "task").prompt_names


def test_a_search_in_code_has_both_sides_in_the_models_spelling() -> None:
    assert purpose_of("nl2code.query", "task").fields() == {
        "input_type": "query",
        "prompt_names": ["nl2code.query", "nl2code_query"],
    }
    assert purpose_of("nl2code.passage", "task").fields()["prompt_names"][-1] == "nl2code_document"


@pytest.mark.parametrize("name", ["prompt", "instruction", "prefix"])
def test_the_words_themselves_have_three_names_and_one_meaning(name: str) -> None:
    assert PromptFields(**{name: "query: "}).prompting()["prompt"] == "query: "
    with pytest.raises(ContradictoryFields, match=f"`{name}`.* contradict each other"):
        PromptFields(**{"prompt": "a", "instruction": "a", "prefix": "a", name: "b"}).prompting()


def test_no_word_and_images_have_no_prompt() -> None:
    assert purpose_of(None, "task").fields() == purpose_of("image", "task").fields()


def test_an_unknown_word_is_refused_with_the_field_and_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=f"`task` 'Query' is unknown; it may be: {', '.join(PURPOSES)}") as raised:
        purpose_of("Query", "task")

    assert raised.value.param == "task"
