"""Relative position biases: the model's own numbers at any length, and little that is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, T5EncoderModel, UMT5EncoderModel

from tests.helpers.tiny_models import embedding_model
from workers.relative_bias import prepare

_CLASSES: dict[str, Any] = {"mpnet": AutoModel, "t5": T5EncoderModel, "umt5": UMT5EncoderModel}
#: Of the tiny models, which have 4 heads: what squares of 200 tokens take.
_OF_200_TOKENS = 4 * 4 * 200 * 200


def _model(folder: Path, name: str) -> Any:
    embedding_model(folder, name)
    return _CLASSES[name].from_pretrained(folder / "bare").eval()


def _own(model: Any, name: str, length: int) -> Tensor:
    if name == "mpnet":
        return model.encoder.compute_position_bias(torch.empty(1, length, 1))
    return model.encoder.block[0].layer[0].SelfAttention.compute_bias(length, length)


@pytest.mark.parametrize("name", _CLASSES)
@torch.inference_mode()
def test_the_bias_of_any_length_is_the_models_own_and_long_ones_are_not_kept(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given room for 200 tokens in each bias: T5 and MPNet have one, UMT5 one in each of three layers
    count = 3 if name == "umt5" else 1
    monkeypatch.setattr("workers.relative_bias._KEPT_BYTES", count * _OF_200_TOKENS)
    model = _model(tmp_path, name)
    lengths = [1, 3, 128, 129, 200, 201, 700, 5]
    expected = [_own(model, name, length) for length in lengths]

    # When
    _, biases = prepare(model)

    # Then
    assert len(biases) == count
    for length, own in zip(lengths, expected, strict=True):
        biases[0].reach(length)
        assert torch.equal(biases[0].values[:, :, :length, :length], own)
    assert biases[0].values.untyped_storage().nbytes() == _OF_200_TOKENS
