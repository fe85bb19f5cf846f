"""From rows to replies: the arithmetic that a caller sees."""

import math
import time
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.errors import DeadlineExceeded, InferenceFailed, InvalidRequest
from shared.jobs import EmbedRequest, RerankRequest, Task
from shared.model_card import ModelCard
from shared.queues import Lane, Operation
from shared.results import Kind, Output, Truncation
from workers.rows import Piece
from workers.scoring import normalized
from workers.work import RequestWork, TaskWork

Rows = npt.NDArray[np.float32]

ROWS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def _work(request: EmbedRequest | RerankRequest, rows: Rows) -> RequestWork:
    operation = Operation.EMBED if isinstance(request, EmbedRequest) else Operation.RERANK
    task = TaskWork.of("t", "t", Task(model="m", lane=Lane.INTERACTIVE, operation=operation, requests=[request]))
    (work,) = task.requests
    work.rows = [{kind: Piece(row) for kind in Kind} for row in rows]
    return work


def _card(*, by_cosine: bool) -> ModelCard:
    return ModelCard(
        name="m",
        operations=list(Operation),
        model_type="embedding",
        kinds=[Kind.DENSE],
        scoring="cosine" if by_cosine else "logit",
        max_tokens=9,
        dtype="float32",
        packed=True,
        max_batch_tokens=9,
        tokens_per_s=1,
        architecture="A",
    )


def _embed(rows: Rows, *, normalize: bool = True, dimensions: int | None = None) -> Rows:
    texts = ["t"] * len(rows)
    request = EmbedRequest(request_id="r", deadline=0, texts=texts, normalize=normalize, dimensions=dimensions)
    return _values(_work(request, rows), by_cosine=True)


def _rerank(rows: Rows, *, raw: bool = False, by_cosine: bool = False) -> Rows:
    documents = ["d"] * (len(rows) - by_cosine)
    request = RerankRequest(request_id="r", deadline=0, query="q", documents=documents, raw_scores=raw)
    return _values(_work(request, rows), by_cosine=by_cosine)


def _values(work: RequestWork, *, by_cosine: bool) -> Rows:
    reply = work.reply(_card(by_cosine=by_cosine))
    assert isinstance(reply, Output)
    assert len(reply.data) == 4 * math.prod(reply.shape)
    return np.frombuffer(reply.data, "<f4").reshape(reply.shape)


@given(ROWS)
def test_vectors_have_unit_length_and_keep_their_direction(rows: Rows) -> None:
    assume((np.abs(rows).max(axis=1) > 1e-3).all())

    vectors = _embed(rows)

    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, rows / norms, atol=1e-5)


def test_a_zero_row_stays_zero() -> None:
    assert (normalized(np.zeros((2, 3), np.float32)) == 0).all()


@given(ROWS)
def test_vectors_that_were_not_to_be_normalised_come_as_they_are(rows: Rows) -> None:
    assert (_embed(rows, normalize=False) == rows).all()


@given(ROWS, st.data())
def test_fewer_dimensions_are_sliced_first_and_normalised_then(rows: Rows, data: st.DataObject) -> None:
    # Given
    dimensions = data.draw(st.integers(1, rows.shape[1]))
    assume((np.abs(rows[:, :dimensions]).max(axis=1) > 1e-3).all())

    # When
    vectors = _embed(rows, dimensions=dimensions)

    # Then the order matters: normalising first would leave shorter vectors
    assert vectors.shape == (len(rows), dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, _embed(np.ascontiguousarray(rows[:, :dimensions])), atol=1e-6)


def test_fewer_dimensions_without_normalisation_are_only_sliced() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)

    assert (_embed(rows, normalize=False, dimensions=2) == rows[:, :2]).all()


@given(ROWS)
def test_an_embedding_model_scores_documents_by_cosine_similarity(rows: Rows) -> None:
    assume(len(rows) > 1)
    assume((np.abs(rows).max(axis=1) > 1e-3).all())

    scores = _rerank(rows, by_cosine=True)

    wide = rows.astype(np.float64)
    expected = wide[1:] @ wide[0] / (np.linalg.norm(wide[1:], axis=1) * np.linalg.norm(wide[0]))
    assert scores.shape == (len(rows) - 1,)
    assert np.allclose(scores, expected, atol=1e-5)
    assert (np.abs(scores) <= 1 + 1e-5).all()


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=10))
def test_a_rerankers_scores_lie_between_0_and_1_in_the_order_of_its_logits(logits: list[float]) -> None:
    # Given
    rows = np.array(logits, np.float32)[:, None]

    # When
    scores = _rerank(rows)

    # Then
    assert scores.shape == (len(logits),)
    assert np.allclose(scores, [1 / (1 + math.exp(-logit)) for logit in logits], atol=1e-6)
    assert ((scores >= 0) & (scores <= 1)).all()
    order = np.argsort(logits, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=10))
def test_raw_scores_are_the_logits(logits: list[float]) -> None:
    rows = np.array(logits, np.float32)[:, None]

    assert (_rerank(rows, raw=True) == rows[:, 0]).all()


@pytest.mark.parametrize(("raw", "scoring"), [(False, "cosine"), (True, "")])
def test_scores_of_vectors_say_what_they_are_unless_they_are_wanted_as_they_are(raw: bool, scoring: str) -> None:
    request = RerankRequest(request_id="r", deadline=0, query="q", documents=["d"], raw_scores=raw)
    rows = np.array([[1.0, 0.0], [-1.0, 0.1]], np.float32)

    reply = _work(request, rows).reply(_card(by_cosine=True))

    assert isinstance(reply, Output)
    assert reply.scoring == scoring
    assert np.frombuffer(reply.data, "<f4")[0] < -0.9


def test_extreme_logits_become_0_and_1_without_a_warning() -> None:
    rows = np.array([[-5000.0], [-800.0], [0.0], [800.0]], np.float32)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = _rerank(rows)

    assert scores.tolist() == [0.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 5])
def test_a_value_that_is_not_finite_is_an_error_and_never_an_answer(bad: float, position: int) -> None:
    # Given
    rows = np.ones((3, 2), np.float32)
    rows.flat[position] = bad
    request = EmbedRequest(request_id="r", deadline=0, texts=["a", "b", "c"], dimensions=1)

    # When
    reply = _work(request, rows).reply(_card(by_cosine=True))

    # Then even where the slice would have cut it off
    assert isinstance(reply, InferenceFailed)


def test_a_request_that_has_failed_is_answered_with_its_error() -> None:
    # Given a request that gave up with one row of two
    work = _work(EmbedRequest(request_id="r", deadline=0, texts=["a", "b"]), np.ones((1, 2), np.float32))
    work.rows = [work.rows[0], None]
    work.error = DeadlineExceeded("too late")

    # Then
    assert work.reply(_card(by_cosine=True)) is work.error


def test_batches_that_ran_at_the_same_time_do_not_add_up() -> None:
    # Given two batches of a request, done a second after it was there
    work = _work(EmbedRequest(request_id="r", deadline=0, texts=["a"]), np.ones((1, 2), np.float32))
    work.ran(0.9, 0.8)
    work.ran(1.0, 0.7)

    # When
    reply = work.reply(_card(by_cosine=True))

    # Then
    assert isinstance(reply, Output)
    assert reply.timings.inference_s == 0.7
    assert reply.timings.queue_s + reply.timings.inference_s == pytest.approx(1.0)


def test_an_answer_carries_what_it_cost() -> None:
    # Given
    work = _work(EmbedRequest(request_id="r", deadline=0, texts=["a"]), np.ones((1, 2), np.float32))
    work.tokens, work.truncations = 7, [Truncation(0, 9, 7)]
    work.tokenization_s = 0.2
    work.ran(0.4, 0.3)

    # When
    reply = work.reply(_card(by_cosine=True))

    # Then
    assert isinstance(reply, Output)
    timings = reply.timings
    assert (reply.tokens, reply.truncated) == (7, 1)
    assert (timings.queue_s, timings.tokenization_s, timings.inference_s) == (pytest.approx(0.1), 0.2, 0.3)
    assert abs(time.time() - timings.received_at) < 60
    assert 0 < timings.held_s < 60
    assert reply.truncations == (Truncation(0, 9, 7),)


def test_the_summary_that_flower_shows_counts_and_quotes_nothing() -> None:
    # Given two requests, one of which failed
    requests = [EmbedRequest(request_id=str(n), deadline=0, texts=["secret", "text"]) for n in range(2)]
    task = TaskWork.of("t", "t", Task(model="m", lane=Lane.BULK, operation=Operation.EMBED, requests=requests))
    for work in task.requests:
        work.rows, work.tokens = [None, None], 5
    assert task.summary() == "requests=2 items=4 tokens=10"

    # When
    task.requests[0].error = InferenceFailed()

    # Then
    assert task.summary() == "requests=2 items=4 tokens=10 failed=1"


def test_each_precision_that_is_wanted_is_made_of_the_normalised_vectors_and_no_other() -> None:
    rows = np.array([[3.0, -4.0, 0.0], [1.0, 1.0, 1.0]], np.float32)
    request = EmbedRequest(request_id="r", deadline=0, texts=["a", "b"], precisions=["ubinary", "float16"])

    reply = _work(request, rows).reply(_card(by_cosine=True))

    assert isinstance(reply, Output)
    assert (reply.shape, reply.data, set(reply.quantized)) == ((2, 3), b"", {"ubinary", "float16"})
    assert list(reply.quantized["ubinary"]) == [0b10000000, 0b11100000]
    halves = np.frombuffer(reply.quantized["float16"], "<f2").reshape(2, 3)
    np.testing.assert_allclose(halves, normalized(rows), atol=1e-3)


def test_a_vector_that_float16_cannot_hold_is_refused() -> None:
    request = EmbedRequest(request_id="r", deadline=0, texts=["a"], precisions=["float16"], normalize=False)

    reply = _work(request, np.array([[1e5, 0.0]], np.float32)).reply(_card(by_cosine=True))

    assert isinstance(reply, InvalidRequest)
    assert "float16" in reply.message
