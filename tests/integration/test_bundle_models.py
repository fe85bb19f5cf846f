"""The models of a bundle: each entry of its models file has its own model's files, whatever their folders are called."""

from pathlib import Path

import numpy as np
import pytest

from bundle.models import gather_models
from millrace.mirror.source import CannotPull
from shared.model_config import ModelConfig


def _model(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_models_whose_folders_have_the_same_name_keep_their_own_files(tmp_path: Path) -> None:
    # Given three models in folders of one name, and of each what its dimensions' ranges are
    configs = []
    for index, name in enumerate("abc"):
        folder = _model(tmp_path / name / "rr", f"weights of {name}".encode())
        np.save(tmp_path / f"{name}.npy", np.full((2, 4), index))
        configs.append(ModelConfig(name=f"org/{name}", source=str(folder), int8_ranges=tmp_path / f"{name}.npy"))

    # When
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    entries = gather_models(configs, bundle)

    # Then
    assert [entry["folder"] for entry in entries] == ["models/rr", "models/rr-2", "models/rr-3"]
    for index, entry in enumerate(entries):
        name = "abc"[index]
        assert entry["name"] == f"org/{name}"
        assert (bundle / entry["folder"] / "model.safetensors").read_text() == f"weights of {name}"
        assert np.load(bundle / entry["int8_ranges"]).max() == index
    # The installer puts the ranges of all into one folder.
    assert len({Path(entry["int8_ranges"]).name for entry in entries}) == 3


def test_a_model_that_is_served_in_two_ways_is_there_once(tmp_path: Path) -> None:
    folder = _model(tmp_path / "rr", b"weights")
    (tmp_path / "link").symlink_to(folder)
    configs = [
        ModelConfig(name="one", source=str(folder)),
        ModelConfig(name="other", source=str(tmp_path / "link"), memory_gib=2),
    ]

    first, second = gather_models(configs, tmp_path / "bundle")

    assert first["folder"] == second["folder"] == "models/rr"
    assert second["memory_gib"] == 2


def test_a_damaged_mirror_is_not_put_into_a_bundle_and_is_named(tmp_path: Path) -> None:
    # Given a mirror in which a byte has changed since
    first = gather_models([ModelConfig(name="mine", source=str(_model(tmp_path / "rr", b"weights")))], tmp_path / "one")
    mirror = tmp_path / "one" / first[0]["folder"]
    (mirror / "model.safetensors").write_bytes(b"Weights")

    with pytest.raises(
        CannotPull, match=f"^model.safetensors came with other contents than {mirror} says .* damaged there$"
    ):
        gather_models([ModelConfig(name="mine", source=str(mirror))], tmp_path / "two")
