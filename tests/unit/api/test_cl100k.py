"""OpenAI's token ids: they mean their texts, or nothing starts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiktoken

from api.catalog import Catalog
from api.cl100k import Cl100k
from api.dialects import openai
from shared.errors import EmptyInput, UnsupportedByModel
from shared.jobs import EmbedRequest
from shared.model_config import ConfigurationError, ModelConfig
from tests.helpers import openai_table
from tests.helpers.dialects import CONTEXT
from tests.helpers.fleets import fleet_of

ROUTE = openai.PLUGIN.routes[0]
TEXTS = ["Die M\u00fchle am Bach", "\u6c34\u8f66", "<|endoftext|> and a mill", "\U0001f30a" * 5]


@pytest.fixture
def cl100k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cl100k:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(openai_table.fill(tmp_path)))
    return Cl100k.load()


def _request(given: Any, cl100k: Cl100k) -> EmbedRequest:
    config = ModelConfig(name="openai-ids", source="org/model", token_input="cl100k")
    context = replace(CONTEXT, catalog=Catalog([config], fleet_of(), cl100k=cl100k))
    (only,) = ROUTE.parse(ROUTE.body.model_validate({"input": given}), context).requests
    assert isinstance(only, EmbedRequest)
    return only


def test_ids_mean_the_texts_that_they_were_made_of(cl100k: Cl100k) -> None:
    ids = tiktoken.get_encoding("cl100k_base").encode_batch(TEXTS, allowed_special="all")

    request = _request(ids, cl100k)

    assert (request.texts, request.token_ids) == (TEXTS, None)
    assert _request(ids[0], cl100k).texts == TEXTS[:1]
    assert _request(TEXTS, cl100k).texts == TEXTS, "texts stay what they are"


def test_half_a_character_is_no_error(cl100k: Cl100k) -> None:
    """LangChain cuts long texts after so many ids, wherever that is."""
    ids = tiktoken.get_encoding("cl100k_base").encode("\U0001f9a6")

    assert len(ids) > 1
    assert _request([ids[:1]], cl100k).texts == ["\ufffd"]


@pytest.mark.parametrize("unknown", [100_261, 2**32 - 1])
def test_an_id_that_openai_has_not_is_named_by_its_input(unknown: int, cl100k: Cl100k) -> None:
    with pytest.raises(UnsupportedByModel, match=r"`input\[1\]` has a token id that OpenAI's cl100k_base"):
        _request([[1, 2], [unknown]], cl100k)


def test_no_ids_are_no_input(cl100k: Cl100k) -> None:
    with pytest.raises(EmptyInput, match=r"`input\[1\]` has no token ids"):
        _request([[1, 2], []], cl100k)


def test_without_tiktoken_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'millrace\[cl100k\]'"):
        Cl100k.load()


@pytest.mark.parametrize("module", ["api", "api.bulk"])
def test_without_the_table_nothing_starts_and_one_sentence_says_why(module: str, tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models:\n  - {name: a, source: org/a, token_input: cl100k}\n")
    environment = {
        **os.environ,
        "MILLRACE_MODELS_FILE": str(models),
        "MILLRACE_STATE_DIR": str(tmp_path),
        "MILLRACE_STORE": str(tmp_path / "store"),
        "TIKTOKEN_CACHE_DIR": str(tmp_path / "empty"),
        "HTTPS_PROXY": "http://127.0.0.1:1",  # no internet
    }

    process = subprocess.run(
        [sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert process.returncode == os.EX_CONFIG
    assert process.stderr.startswith(
        "millrace: a model in models.yaml has `token_input: cl100k`, which needs the table"
    )
    assert "TIKTOKEN_CACHE_DIR" in process.stderr
    assert "Traceback" not in process.stderr
