"""Dispatch, its pure parts: requests are cut, gathered and put together again, and nothing is lost on the way."""

import asyncio
import base64
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import dispatch
from api.admission import Admission
from api.backlog import Backlog
from api.dispatch import Dispatcher, Published, _chunks, _estimate_tokens, _merge, _resolve, _split, _Waiting, share
from api.replies import PendingTask
from api.stages import Stages
from shared.errors import BatchTooLarge, DeadlineExceeded, InferenceFailed, WorkerLost
from shared.jobs import (
    ClassifyRequest,
    DecodeRequest,
    EmbedRequest,
    RerankRequest,
    Task,
    TokenizeRequest,
    estimated_tokens,
)
from shared.metrics import Metrics, Owner
from shared.places import QUERY
from shared.queues import Lane
from shared.results import Output, Ragged, Timings, Token, Truncation
from tests.helpers.fleets import card, fleet_of
from tests.helpers.outputs import output

TEXTS = st.lists(st.integers(0, 300).map(lambda length: "x" * length), min_size=1, max_size=20)
BUDGETS = st.integers(1, 300)
#: Of a text of 400 characters.
PART_TOKENS = estimated_tokens(400, 1)


def _embed(texts: list[str]) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=1.0, texts=texts, truncate=False, dimensions=5)


@given(TEXTS, BUDGETS, st.integers(0, 100))
def test_chunks_follow_each_other_without_gap_or_overlap(texts: list[str], budget: int, shared: int) -> None:
    chunks = list(_chunks([shared + len(text) for text in texts], budget))

    assert chunks[0][0] == 0
    assert chunks[-1][1] == len(texts)
    assert all(one[1] == other[0] for one, other in pairwise(chunks))
    assert all(start < end for start, end in chunks)


@given(TEXTS, BUDGETS, st.integers(0, 100))
def test_a_chunk_is_within_the_budget_unless_it_is_a_single_text(texts: list[str], budget: int, shared: int) -> None:
    for start, end in _chunks([shared + len(text) for text in texts], budget):
        cost = sum(estimated_tokens(len(text) + shared, 1) for text in texts[start:end])
        assert end - start == 1 or cost <= budget


@given(TEXTS, BUDGETS)
def test_the_parts_of_an_embed_request_are_the_request(texts: list[str], budget: int) -> None:
    # Given
    request = _embed(texts)

    # When
    parts = list(_split(request, budget))

    # Then every text is there once and in order, and every part is asked for in the same way
    assert [text for part in parts if isinstance(part, EmbedRequest) for text in part.texts] == texts
    for part in parts:
        assert (part.request_id, part.deadline, part.truncate) == ("r", 1.0, False)
        assert isinstance(part, EmbedRequest)
        assert part.dimensions == 5


@given(TEXTS, BUDGETS)
def test_the_parts_of_a_rerank_request_all_have_its_query(documents: list[str], budget: int) -> None:
    # Given
    request = RerankRequest(request_id="r", deadline=1.0, query="the query", documents=documents, raw_scores=True)

    # When
    parts = list(_split(request, budget))

    # Then
    assert [document for part in parts if isinstance(part, RerankRequest) for document in part.documents] == documents
    for part in parts:
        assert isinstance(part, RerankRequest)
        assert (part.query, part.raw_scores) == ("the query", True)


@given(TEXTS)
def test_a_request_within_the_budget_is_left_alone(texts: list[str]) -> None:
    request = _embed(texts)

    assert list(_split(request, _estimate_tokens(request))) == [request]


def test_a_long_query_counts_for_every_document_that_it_is_paired_with() -> None:
    # Given documents that are nothing beside their query: each pair is a quarter of the budget
    request = RerankRequest(request_id="r", deadline=1.0, query="q" * 392, documents=["dddd"] * 40)

    # When
    parts = list(_split(request, 4 * 101))

    # Then
    assert max(part.items for part in parts) <= 4


def test_both_texts_of_a_pair_count() -> None:
    # Given pairs that each are a quarter of the budget, nearly all of it in the second text
    request = ClassifyRequest(request_id="r", deadline=1.0, texts=["q"] * 40, seconds=["d" * 395] * 40)

    # When
    parts = list(_split(request, 4 * 101))

    # Then
    assert max(part.items for part in parts) <= 4
    assert [
        second for part in parts if isinstance(part, ClassifyRequest) for second in part.seconds or ()
    ] == request.seconds


@pytest.fixture(scope="module")
def future() -> Iterator[Callable[[], asyncio.Future[object]]]:
    loop = asyncio.new_event_loop()
    yield loop.create_future
    loop.close()


def test_each_request_of_a_task_gets_its_own_reply(future: Callable[[], asyncio.Future[object]]) -> None:
    # Given two requests, one of which somebody has given up
    together = [_Waiting(_embed(["a"]), future(), 1) for _ in range(3)]  # type: ignore[arg-type]
    together[1].reply.cancel()
    replies = [output([[1.0]]), output([[2.0]]), InferenceFailed()]

    # When
    _resolve(together, list(replies))

    # Then
    assert together[0].reply.result() is replies[0]
    assert together[2].reply.result() is replies[2]


@pytest.mark.parametrize("outcome", [WorkerLost(), None])
def test_a_task_that_never_ran_answers_all_of_its_requests(
    future: Callable[[], asyncio.Future[object]], outcome: WorkerLost | None
) -> None:
    together = [_Waiting(_embed(["a"]), future(), 1) for _ in range(2)]  # type: ignore[arg-type]

    _resolve(together, outcome)

    for entry in together:
        assert isinstance(entry.reply.result(), WorkerLost if outcome else DeadlineExceeded)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.sampled_from([None, 3]))
def test_outputs_of_parts_are_put_together_in_order(counts: list[int], width: int | None) -> None:
    # Given parts whose rows are numbered through: scores, or vectors of 3
    numbers = iter(range(10_000))
    parts = [
        Output(
            shape=(count,) if width is None else (count, width),
            data=np.array([next(numbers) for _ in range(count * (width or 1))], "<f4").tobytes(),
            tokens=index + 1,
            truncated=index,
        )
        for index, count in enumerate(counts)
    ]

    # When
    merged = _merge(parts)

    # Then
    assert merged.shape == (sum(counts), *parts[0].shape[1:])
    assert np.frombuffer(merged.data, "<f4").tolist() == list(range(math.prod(merged.shape)))
    indexes = range(len(counts))
    assert (merged.tokens, merged.truncated) == (sum(indexes) + len(counts), sum(indexes))


def test_an_error_in_one_part_is_the_answer() -> None:
    with pytest.raises(WorkerLost):
        _merge([output([[1.0]]), WorkerLost(), output([[1.0]])])


@given(TEXTS, BUDGETS)
def test_a_request_cut_and_put_together_is_the_same_request_answered(texts: list[str], budget: int) -> None:
    # Given an engine that answers each text with its length
    def answer(request: EmbedRequest | RerankRequest) -> Output:
        assert isinstance(request, EmbedRequest)
        return output([[float(len(text))] for text in request.texts], tokens=request.items)

    # When
    merged = _merge([answer(part) for part in _split(_embed(texts), budget)])

    # Then
    assert np.frombuffer(merged.data, "<f4").tolist() == [len(text) for text in texts]
    assert merged.tokens == len(texts)


@given(TEXTS, BUDGETS)
def test_the_parts_of_a_tokenize_request_are_the_request(texts: list[str], budget: int) -> None:
    request = TokenizeRequest(request_id="r", deadline=1.0, texts=texts, add_special_tokens=False, prompt_name="query")

    parts = [part for part in _split(request, budget) if isinstance(part, TokenizeRequest)]

    assert [text for part in parts for text in part.texts] == texts
    assert {(part.add_special_tokens, part.prompt_name) for part in parts} == {(False, "query")}


@given(st.lists(st.lists(st.integers(0, 9), max_size=100), min_size=1, max_size=20), BUDGETS)
def test_the_parts_of_a_decode_request_are_the_request(ids: list[list[int]], budget: int) -> None:
    request = DecodeRequest(request_id="r", deadline=1.0, ids=ids, skip_special_tokens=False)

    parts = [part for part in _split(request, budget) if isinstance(part, DecodeRequest)]

    assert [each for part in parts for each in part.ids] == ids
    assert not any(part.skip_special_tokens for part in parts)


def test_what_a_tokenizer_answered_in_parts_is_joined_in_order() -> None:
    tokens = [Token(number, "a", False, 0, 1) for number in range(3)]
    parts = [
        Output(shape=(1, 0), data=b"", tokens=2, token_lists=(tuple(tokens[:2]),)),
        Output(shape=(1, 0), data=b"", tokens=1, token_lists=(tuple(tokens[2:]),)),
    ]
    texts = [Output(shape=(1, 0), data=b"", tokens=1, texts=(text,)) for text in "ab"]

    assert _merge(parts).token_lists == (tuple(tokens[:2]), tuple(tokens[2:]))
    assert _merge(texts).texts == ("a", "b")


def test_what_was_cut_in_a_part_is_told_by_its_place_in_the_request_and_the_query_once() -> None:
    # Given two parts of a rerank request whose query is too long
    parts = [
        replace(output([0.5, 0.5]), truncated=2, truncations=(Truncation(QUERY, 20, 9), Truncation(1, 30, 9))),
        replace(output([0.5]), truncated=2, truncations=(Truncation(QUERY, 20, 9), Truncation(0, 40, 9))),
    ]

    # When
    whole = _merge(parts)

    # Then
    assert whole.truncations == (Truncation(QUERY, 20, 9), Truncation(1, 30, 9), Truncation(2, 40, 9))
    assert whole.truncated == 3


def test_a_document_of_chunks_is_never_split() -> None:
    request = replace(_embed(["mill " * 40] * 20), late_chunking=True)

    assert list(_split(request, 10)) == [request]


def test_quantised_vectors_of_a_split_request_are_joined_in_order() -> None:
    parts = [Output(shape=(1, 2), data=b"", tokens=1, quantized={"int8": bytes([n, n + 1])}) for n in (1, 3)]

    assert _merge(parts).quantized == {"int8": b"\x01\x02\x03\x04"}


def test_sparse_and_token_vectors_of_a_split_request_are_joined_in_order() -> None:
    # Given two parts, the first with a text that has no entry
    def part(counts: list[int]) -> Output:
        rows = sum(counts)
        return Output(
            shape=(len(counts), 0),
            data=b"",
            tokens=rows,
            sparse=Ragged(
                counts=np.array(counts, "<i4").tobytes(),
                values=np.full(rows, 0.5, "<f4").tobytes(),
                width=1,
                indices=np.arange(rows, dtype="<i4").tobytes(),
            ),
            multivector=Ragged(
                counts=np.array(counts, "<i4").tobytes(), values=np.zeros((rows, 3), "<f4").tobytes(), width=3
            ),
        )

    # When
    whole = _merge([part([2, 0]), part([1])])

    # Then
    assert whole.sparse is not None
    assert whole.multivector is not None
    assert np.frombuffer(whole.sparse.counts, "<i4").tolist() == [2, 0, 1]
    assert np.frombuffer(whole.sparse.indices or b"", "<i4").tolist() == [0, 1, 0]
    assert len(whole.multivector.values) == 3 * 3 * 4
    assert (whole.shape, whole.tokens) == ((3, 0), 3)


def _texts_of(pending: PendingTask) -> list[list[str]]:
    """The texts of each request of a task, as a worker reads them."""
    _, arguments, _ = msgpack.unpackb(base64.b64decode(orjson.loads(pending.message)["body"]))
    return [request.texts for request in Task.from_wire(arguments).requests if isinstance(request, EmbedRequest)]


def _idle_workers(
    workers: int, publish: Callable[[PendingTask], None], *, batch_tokens: int, tasks_in_flight: int = 4
) -> Dispatcher:
    """A dispatcher for so many workers that have nothing to do."""
    fleet, metrics = fleet_of(*[card("m", max_batch_tokens=batch_tokens)] * workers), Metrics(Owner.GATEWAY)
    return Dispatcher(
        SimpleNamespace(publish=publish),  # type: ignore[arg-type]
        fleet,
        Admission(fleet, Backlog("gw"), max_pending_items=10_000),
        metrics,
        Stages(metrics),
        gateway_id="gw",
        tasks_in_flight_per_worker=tasks_in_flight,
    )


def _dispatched(
    workers: int, lane: Lane, texts: list[str], *, batch_tokens: int
) -> tuple[list[list[str]], list[float]]:
    """A request of these texts to so many idle workers: the texts of each task that leaves at once, and the answer.

    The workers answer each text with its length, the last task first.
    """

    async def run() -> tuple[list[list[str]], list[float]]:
        tasks: list[PendingTask] = []
        published = asyncio.Event()

        def publish(pending: PendingTask) -> None:
            tasks.append(pending)
            published.set()

        dispatcher = _idle_workers(workers, publish, batch_tokens=batch_tokens)
        request = replace(_embed(texts), deadline=time.time() + 60)
        running = asyncio.create_task(dispatcher.run("m", lane, request))
        await published.wait()
        at_once = [[text for part in _texts_of(task) for text in part] for task in tasks]
        for task in reversed(list(tasks)):
            task.on_outcome([output([[float(len(text))] for text in part]) for part in _texts_of(task)])
        merged = await running
        return at_once, np.frombuffer(merged.data, "<f4").tolist()

    return asyncio.run(run())


def test_a_large_request_goes_to_all_workers_at_once_and_is_answered_in_order() -> None:
    # Given eight GPUs, each of which could take the whole request in one batch
    texts = ["x" * (n % 90) for n in range(2048)]

    # When
    tasks, answer = _dispatched(8, Lane.INTERACTIVE, texts, batch_tokens=131_072)

    # Then each has about as much to do, in one task or two
    sizes = sorted((sum(estimated_tokens(len(text), 1) for text in task) for task in tasks), reverse=True)
    assert len(tasks) in (8, 9)
    assert sizes[7] > 0.75 * sizes[0]
    assert [text for task in tasks for text in task] == texts
    assert answer == [len(text) for text in texts]


def test_a_small_request_is_one_task_however_many_workers_there_are() -> None:
    tasks, _ = _dispatched(8, Lane.INTERACTIVE, ["some text"] * 32, batch_tokens=131_072)

    assert [len(task) for task in tasks] == [32]


def test_bulk_work_is_cut_by_batches_only() -> None:
    tasks, _ = _dispatched(8, Lane.BULK, ["x" * 40] * 2048, batch_tokens=131_072)

    assert [len(task) for task in tasks] == [2048]


def test_the_stages_of_a_request_in_parts_are_those_of_the_part_that_came_last() -> None:
    # Given parts that workers compute at the same time, in 0.15 s each
    async def run() -> tuple[Timings, float]:
        tasks: list[PendingTask] = []
        dispatcher = _idle_workers(8, tasks.append, batch_tokens=1024)
        started = time.perf_counter()
        request = replace(_embed(["x" * 400] * 100), deadline=time.time() + 60)
        running = asyncio.create_task(dispatcher.run("m", Lane.INTERACTIVE, request))
        await asyncio.sleep(0.25)
        assert len(tasks) > 8
        timings = Timings(0.01, 0.02, 0.15, received_at=time.time() - 0.24, held_s=0.18)
        for task in tasks:
            task.on_outcome([replace(output([[1.0]] * len(part)), timings=timings) for part in _texts_of(task)])
        merged = await running
        return merged.timings, time.perf_counter() - started

    timings, seconds = asyncio.run(run())

    # Then they are no longer than the request
    assert timings.inference_s == pytest.approx(0.15)
    assert timings.tokenization_s == pytest.approx(0.02)
    assert timings.queue_s + timings.tokenization_s + timings.inference_s <= seconds


@given(st.integers(0, 10**6), st.integers(1, 131_072), st.integers(0, 64))
def test_a_share_is_no_more_than_a_batch_and_enough_that_all_workers_do_it_together(
    tokens: int, batch_tokens: int, workers: int
) -> None:
    part = share(tokens, batch_tokens, workers)

    assert 1 <= part <= batch_tokens
    assert part == batch_tokens or part * max(1, workers) >= tokens


def test_inputs_count_for_their_model_until_they_are_answered() -> None:
    async def counts() -> list[int]:
        published = asyncio.get_running_loop().create_future()
        replies = SimpleNamespace(publish=published.set_result)
        fleet, backlog, metrics = fleet_of(card("m")), Backlog("gw"), Metrics(Owner.GATEWAY)
        dispatcher = Dispatcher(
            replies,  # type: ignore[arg-type]
            fleet,
            Admission(fleet, backlog, max_pending_items=10),
            metrics,
            Stages(metrics),
            gateway_id="gw",
            tasks_in_flight_per_worker=1,
        )
        request = replace(_embed(["a", "b", "c"]), deadline=time.time() + 60)
        running = asyncio.create_task(dispatcher.run("m", Lane.INTERACTIVE, request))
        task: PendingTask = await published
        while_waiting = backlog.items["m"]
        task.on_outcome([output([[1.0]])])
        await running
        return [while_waiting, backlog.items["m"], backlog.items["other"]]

    assert asyncio.run(counts()) == [3, 0, 0]


def test_what_makes_a_message_that_no_worker_takes_is_refused_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "MESSAGE_LIMIT_BYTES", 10_000)
    published: list[PendingTask] = []

    async def ask() -> None:
        dispatcher = _idle_workers(1, published.append, batch_tokens=100)
        chunks = replace(_embed(["a" * 100] * 100), deadline=time.time() + 60, late_chunking=True)
        await dispatcher.run("m", Lane.INTERACTIVE, chunks)

    with pytest.raises(BatchTooLarge, match=r"a message of 1[0-9]{4} bytes, more than the 10000"):
        asyncio.run(ask())
    assert published == []


@pytest.mark.parametrize(
    ("workers", "replies", "tokens"),
    [
        (1, [output([[1.0]])], 3 * PART_TOKENS),
        (1, [], 2 * PART_TOKENS),
        (1, [InferenceFailed()], 2 * PART_TOKENS),
        (0, [], 0),
    ],
    ids=["one is answered", "none is answered", "one is refused", "there is no worker"],
)
def test_it_is_known_what_the_workers_may_have_computed(
    workers: int, replies: list[Output | InferenceFailed], tokens: int
) -> None:
    """Of a request of three parts, of which two are under way at a time, and which is not answered in time."""
    published = Published()

    async def ask() -> None:
        left = iter(replies)

        def publish(pending: PendingTask) -> None:
            if (reply := next(left, None)) is not None:
                asyncio.get_running_loop().call_soon(pending.on_outcome, [reply])

        dispatcher = _idle_workers(workers, publish, batch_tokens=PART_TOKENS, tasks_in_flight=2)
        request = replace(_embed(["a" * 400] * 3), deadline=time.time() + 0.1)
        with pytest.raises(DeadlineExceeded):
            await dispatcher.run("m", Lane.BULK, request, published)

    asyncio.run(ask())
    assert published.tokens == tokens
