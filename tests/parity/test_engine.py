"""The engine refuses in one sentence what it cannot serve, and serves several models at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from tests.helpers.tiny_models import cross_encoder, embedding_model
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.sequences import Sequences


def _engine(*models: ModelConfig, **options: Any) -> Engine:
    defaults = {"device": "cpu", "threads": 1, "batches_in_flight": 1}
    return Engine(EngineOptions(models=models, **{**defaults, **options}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedding_model(tmp_path_factory.mktemp("bert"), "bert")


def test_two_models_share_a_device_and_keep_their_order(folder: Path, tmp_path: Path) -> None:
    # Given
    reranker = cross_encoder(tmp_path, "bert")
    engine = _engine(ModelConfig(name="e", source=str(folder)), ModelConfig(name="r", source=str(reranker)))
    sequences = Sequences(np.array([101, 5, 102, 101, 102], np.int32), np.array([3, 2], np.int32))

    # When
    vectors = engine.run(0, sequences, [Kind.DENSE])[Kind.DENSE].values
    logits = engine.run(1, sequences, [Kind.SCORES])[Kind.SCORES].values

    # Then
    assert [model.card.name for model in engine.models] == ["e", "r"]
    assert (vectors.shape, logits.shape) == ((2, 32), (2, 1))
    assert vectors.dtype == logits.dtype == np.float32


def test_a_models_own_budget_and_dtype_win_over_the_workers(folder: Path) -> None:
    # When
    config = ModelConfig(name="m", source=str(folder), dtype="bfloat16", max_batch_tokens=77)
    (own,) = _engine(config, dtype="float32", max_batch_tokens=512).models
    (workers,) = _engine(ModelConfig(name="m", source=str(folder)), max_batch_tokens=512).models
    (default,) = _engine(ModelConfig(name="m", source=str(folder))).models

    # Then
    assert (own.card.dtype, own.card.max_batch_tokens) == ("bfloat16", 77)
    assert (workers.card.dtype, workers.card.max_batch_tokens) == ("float32", 512)
    assert default.card.max_batch_tokens == 1024


def test_bfloat16_rows_are_close_to_float32_and_leave_as_float32(folder: Path) -> None:
    # Given
    sequences = Sequences(np.array([101, 2000, 102], np.int32), np.array([3], np.int32))
    rows = {
        dtype: _engine(ModelConfig(name="m", source=str(folder), dtype=dtype))
        .run(0, sequences, [Kind.DENSE])[Kind.DENSE]
        .values[0]
        for dtype in ("float32", "bfloat16")
    }

    # Then
    cosine = rows["float32"] @ rows["bfloat16"] / np.prod([np.linalg.norm(row) for row in rows.values()])
    assert rows["bfloat16"].dtype == np.float32
    assert cosine > 0.99


@pytest.mark.parametrize(("dtype", "is_told"), [("float64", True), ("float32", False)])
def test_a_number_format_that_this_cpu_is_slow_with_is_told(folder: Path, dtype: str, is_told: bool) -> None:
    # float64 stands for any: that every processor has half as many of its numbers in a register is certain
    with capture_logs() as logs:
        _engine(ModelConfig(name="m", source=str(folder)), dtype=dtype)

    assert [log["dtype"] for log in logs if log["event"] == "slow_number_format"] == [dtype] * is_told


def _change_config(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def test_a_folder_without_weights_is_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "bert")
    (folder / "model.safetensors").unlink()

    _refused(folder)


def test_an_unknown_model_type_is_refused_in_one_sentence(tmp_path: Path) -> None:
    _refused(_change_config(cross_encoder(tmp_path, "bert"), model_type="flux-capacitor"))


def test_a_broken_configuration_is_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path, "bert")
    (folder / "config.json").write_text("{")

    _refused(folder)


def test_truncated_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    # Given a download that broke off
    folder = cross_encoder(tmp_path, "bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])

    _refused(folder)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    # Given a folder with the old kind of weights only
    import torch
    from safetensors.torch import load_file

    folder = cross_encoder(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")

    _refused(folder)


def _refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        _engine(ModelConfig(name="wanted", source=str(folder)))

    message = str(raised.value)
    assert message.startswith("model wanted: ")
    assert str(folder) in message
    assert "\n" not in message
