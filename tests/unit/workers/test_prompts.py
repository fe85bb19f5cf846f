"""Prompts of a folder: which of sentence-transformers' are its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from workers.prompts import unstated_prompts


@pytest.mark.parametrize(
    ("settings", "prompts", "unstated"),
    [
        (None, {"query": "", "document": ""}, ["query", "document"]),
        ({}, {"query": "", "document": ""}, ["query", "document"]),
        ({"prompts": None}, {"query": "", "document": ""}, ["query", "document"]),
        ({"prompts": {"document": None}}, {"query": "", "document": ""}, ["query", "document"]),
        ({"prompts": {"query": "find: "}}, {"query": "find: ", "document": ""}, ["document"]),
        ({"prompts": {"document": "", "passage": "text: "}}, {"query": "", "document": "", "passage": "text: "}, ["query"]),
        ({"prompts": {"none": ""}}, {"none": ""}, []),
        ({"query_prefix": "[Q] "}, {"query": "[Q] ", "document": "[D] "}, []),
    ],
    ids=[
        "no file", "no prompts", "null", "a null prompt", "one side", "said to be empty", "no such names", "PyLate's",
    ],
)  # fmt: skip
def test_an_empty_prompt_is_the_folders_own_where_its_file_has_it(
    tmp_path: Path, settings: dict[str, Any] | None, prompts: dict[str, str], unstated: list[str]
) -> None:
    if settings is not None:
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))

    assert unstated_prompts(tmp_path, prompts) == unstated
