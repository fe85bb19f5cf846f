"""Weights: where a model is found, and one sentence when it is not."""

from pathlib import Path

import pytest

from shared.model_config import DEFAULT_MODEL, ConfigurationError, ModelConfig
from workers.weights import local_folder


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
