"""Head sizes, windows and lengths as published models have them, against transformers' own SDPA on each sequence alone."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    EmbeddingGemma2TextConfig,
    EmbeddingGemma2TextModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from tests.gpu import comparison
from tests.gpu.comparison import Array, difference, least_cosine
from workers import encoder as encoders
from workers.encoder import Encoder
from workers.sequences import Sequences
from workers.shared_prefix import shared_prefix

pytestmark = pytest.mark.gpu

VOCABULARY = 300
LENGTHS = [1, 2, 15, 16, 17, 63, 64, 65, 95, 96, 97, 128, 128, 128, 129, 193, 257, 512, 601]
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "max_position_embeddings": 1024,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GEMMA3_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
_GEMMA3: dict[str, Any] = {"num_key_value_heads": 1, "head_dim": 256}
#: Name → the model: windows of which most texts see a part only, key heads that several query heads share.
MODELS: dict[str, Callable[[], Any]] = {
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(num_hidden_layers=3, **_SIZES), add_pooling_layer=False),
    "modernbert, window of 128": lambda: ModernBertModel(
        ModernBertConfig(num_hidden_layers=4, local_attention=128, cls_token_id=0, sep_token_id=2, **_SIZES)
    ),
    "qwen3, 2 key heads of 128": lambda: Qwen3Model(
        Qwen3Config(num_hidden_layers=3, num_key_value_heads=2, head_dim=128, **_SIZES)
    ),
    "mistral, window of 96": lambda: MistralModel(
        MistralConfig(num_hidden_layers=3, num_key_value_heads=2, sliding_window=96, **_SIZES)
    ),
    "embedding gemma 2, heads of 256 with a window of 96, then of 512": lambda: EmbeddingGemma2TextModel(
        EmbeddingGemma2TextConfig(
            num_hidden_layers=3,
            num_key_value_heads=2,
            sliding_window=96,
            sliding_window_pattern=3,
            hidden_size_per_layer_input=64,
            **_SIZES,
        )
    ),
    "gemma3, window of 96, 1 key head of 256": lambda: Gemma3TextModel(
        Gemma3TextConfig(num_hidden_layers=3, layer_types=_GEMMA3_LAYERS, sliding_window=96, **_GEMMA3, **_SIZES)
    ),
    "embedding gemma, window of 48 to either side": lambda: Gemma3TextModel(
        Gemma3TextConfig(
            num_hidden_layers=3,
            layer_types=_GEMMA3_LAYERS,
            sliding_window=96,
            use_bidirectional_attention=True,
            **_GEMMA3,
            **_SIZES,
        )
    ),
}


@dataclass(frozen=True)
class Trial:
    """A model, what it reads, and its own states of it."""

    model: Any
    sequences: Sequences
    #: Of each sequence, shape (length, hidden size), float32, from the CPU.
    expected: list[Array]

    def states(self, device: str, dtype: str) -> list[Array]:
        """Ours."""
        model = copy.deepcopy(self.model).to(device, getattr(torch, dtype))
        return _states(model, self.sequences, device)


@pytest.fixture(scope="module", params=MODELS)
def trial(request: pytest.FixtureRequest, device: str) -> Trial:
    model = MODELS[request.param]().eval()
    _randomize(model)
    dice = np.random.default_rng(6)
    lengths = dice.permutation(LENGTHS).astype(np.int32)
    sequences = Sequences(dice.integers(5, VOCABULARY, int(lengths.sum())).astype(np.int32), lengths)
    return Trial(model, sequences, _alone(model, sequences))


@torch.no_grad()
def _randomize(model: Any) -> None:
    """Weights of a size that makes attention look at some tokens more than at others, layer after layer."""
    generator = torch.Generator().manual_seed(8)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 2:
            deviation = 1.0 if "embed" in name else 1.0 / parameter.shape[1] ** 0.5
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))


@torch.inference_mode()
def _alone(model: Any, sequences: Sequences) -> list[Array]:
    """Transformers' own way, one sequence at a time."""
    model.set_attn_implementation("sdpa")
    rows = np.split(sequences.ids.astype(np.int64), np.cumsum(sequences.lengths)[:-1])
    return [model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0].numpy() for ids in rows]


@torch.inference_mode()
def _states(model: Any, sequences: Sequences, device: str) -> list[Array]:
    tokenizer = SimpleNamespace(model_input_names=["input_ids"], pad_token_id=1)
    hidden = Encoder(model, tokenizer, torch.device(device))(sequences)
    return np.split(hidden.states.float().cpu().numpy(), np.cumsum(sequences.lengths)[:-1])


def test_float32_is_the_models_own(trial: Trial, device: str) -> None:
    ours = trial.states(device, "float32")

    assert difference(ours, trial.expected) <= comparison.TOLERANCE
    assert 1 - least_cosine(ours, trial.expected) <= comparison.COSINE_ERROR


def test_bfloat16_points_where_the_models_own_float32_points(trial: Trial, device: str) -> None:
    assert least_cosine(trial.states(device, "bfloat16"), trial.expected) >= comparison.LEAST_COSINE


def test_the_states_depend_on_what_is_near_and_on_its_order(trial: Trial) -> None:
    # Given: otherwise agreement would prove nothing
    ids = trial.sequences.ids.copy()
    longest = int(trial.sequences.lengths.argmax())
    at = int(trial.sequences.lengths[:longest].sum()) + 300
    ids[[at, at + 1]] = ids[[at + 1, at]] + [0, 1]
    changed = _alone(trial.model, Sequences(ids, trial.sequences.lengths))[longest]

    # Then
    assert difference([changed[320:340]], [trial.expected[longest][320:340]]) > 10 * comparison.TOLERANCE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_prefix_that_sequences_share_is_computed_once_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: str
) -> None:
    # Given a template and a query in front of each document
    model = MODELS["qwen3, 2 key heads of 128"]().eval()
    _randomize(model)
    model.to(device, getattr(torch, dtype))
    dice = np.random.default_rng(7)
    prefix = dice.integers(5, VOCABULARY, 90)
    rows = [np.concatenate([prefix, dice.integers(5, VOCABULARY, length)]) for length in (1, 20, 64, 150, 150, 203)]
    lengths = np.array([len(row) for row in rows], np.int32)
    sequences = Sequences(np.concatenate(rows).astype(np.int32), lengths)
    prefixes = shared_prefix(sequences)
    assert prefixes is not None
    assert len(prefixes.compact) == lengths.sum() - 5 * len(prefix)

    # When
    shared = _states(model, sequences, device)
    monkeypatch.setattr(encoders, "shared_prefix", lambda batch: None)
    whole = _states(model, sequences, device)

    # Then
    if dtype == "float32":
        assert difference(shared, whole) <= comparison.SAME_TOLERANCE
    assert least_cosine(shared, whole) >= comparison.LEAST_SAME_COSINE
