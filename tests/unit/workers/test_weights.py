"""Weights: where a model is found, and one sentence when it is not."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.model_config import DEFAULT_MODEL, ConfigurationError, ModelConfig
from workers.weights import architecture, local_folder


def _config(source: str) -> ModelConfig:
    return ModelConfig(name="wanted", source=source)


def test_the_default_model_lies_in_its_package() -> None:
    assert (local_folder(DEFAULT_MODEL) / "model.safetensors").exists()


def test_a_folder_with_a_model_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    assert local_folder(_config(str(tmp_path))) == tmp_path


def test_a_folder_in_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path))

    # Then
    assert local_folder(_config("~/model")) == tmp_path / "model"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/model", "there is no folder /nowhere/model"),
        ("./nowhere", "there is no folder"),
        ("package:no_such_package_here", r"pip install no-such-package-here"),
        ("package:json", "json"),
        ("package:no_such.package_here", r"no_such\.package_here"),
        ("org/not-on-this-machine", "cannot be fetched from the hub"),
        ("not a hub id at all!", "cannot be fetched from the hub"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence_that_names_it(source: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        local_folder(_config(source))

    message = str(raised.value)
    assert message.startswith("model wanted: ")
    assert "\n" not in message


def test_a_folder_without_a_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^model wanted: folder .* has no config\.json$"):
        local_folder(_config(str(tmp_path)))


def _write(folder: Path, files: Mapping[str, object]) -> None:
    for name, described in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(described))


@pytest.mark.parametrize("at", ["", "document_0_Transformer"], ids=["at the top", "in its folder"])
def test_a_router_has_the_architecture_of_its_transformer(tmp_path: Path, at: str) -> None:
    # Given what sentence-transformers writes, and what OpenSearch published
    types = {"query_0_SparseStaticEmbedding": "a.SparseStaticEmbedding", at: "b.MLMTransformer", "c": "d.SpladePooling"}
    _write(
        tmp_path,
        {
            "modules.json": [{"path": "", "type": "sentence_transformers.models.Router"}],
            "router_config.json": {"types": types},
            "query_0_SparseStaticEmbedding/config.json": {"frozen": True},
            f"{at or '.'}/config.json": {"model_type": "bert"},
        },
    )

    # Then
    assert local_folder(_config(str(tmp_path))) == tmp_path
    assert architecture(tmp_path) == {"model_type": "bert"}


def test_a_router_without_a_transformer_has_no_architecture(tmp_path: Path) -> None:
    types = {"query_0_SparseStaticEmbedding": "a.SparseStaticEmbedding"}
    modules = [{"path": "", "type": "sentence_transformers.models.Router"}]
    _write(tmp_path, {"modules.json": modules, "router_config.json": {"types": types}})

    with pytest.raises(ConfigurationError, match=r"has no config\.json$"):
        local_folder(_config(str(tmp_path)))


def test_static_embeddings_need_no_architecture(tmp_path: Path) -> None:
    modules = [{"path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}]
    _write(tmp_path, {"modules.json": modules})

    assert local_folder(_config(str(tmp_path))) == tmp_path
    assert architecture(tmp_path) == {}
