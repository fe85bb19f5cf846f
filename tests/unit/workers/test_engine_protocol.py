"""What worker and engine process say to each other arrives as it was said."""

from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
import pytest

from shared.metrics import Metrics, Owner
from shared.model_card import ModelCard
from shared.queues import Operation
from shared.results import Kind
from workers.engine_protocol import (
    Batch,
    BatchResult,
    EngineModel,
    EngineReady,
    receive_batch,
    receive_ready,
    receive_result,
    send_batch,
    send_ready,
    send_result,
)
from workers.input_format import InputFormat
from workers.memory import Memory, host_memory, show
from workers.rows import Rows
from workers.sequences import Sequences

BARE = Sequences(np.array([5, 6, 7], np.int32), np.array([1, 2], np.int32))
FULL = Sequences(
    np.array([5, 6, 7], np.int32),
    np.array([1, 2], np.int32),
    type_ids=np.array([0, 0, 1], np.int32),
    is_query=np.array([True, False]),
    skip=np.array([0, 1], np.int32),
    chunk_lengths=np.array([1, 1, 1], np.int32),
    chunk_counts=np.array([1, 2], np.int32),
)


@pytest.fixture
def ends() -> tuple[Connection, Connection]:
    return Pipe()


@pytest.mark.parametrize("sequences", [BARE, FULL], ids=["bare", "full"])
def test_a_batch_arrives_whole(ends: tuple[Connection, Connection], sequences: Sequences) -> None:
    send_batch(ends[0], Batch(7, 1, sequences, [Kind.DENSE, Kind.SPARSE], alone=False))
    batch = receive_batch(ends[1])

    assert (batch.number, batch.model, batch.kinds, batch.alone) == (7, 1, ["dense", "sparse"], False)
    for name in Sequences.__slots__:
        np.testing.assert_array_equal(getattr(batch.sequences, name), getattr(sequences, name))


def test_rows_of_every_kind_arrive_and_fall_into_their_sequences(ends: tuple[Connection, Connection]) -> None:
    # Given two sequences, the second without a sparse entry
    dense = Rows(np.array([[1, 2], [3, 4]], np.float32))
    sparse = Rows(np.array([[0.5], [0.25]], np.float32), np.array([2, 0], np.int32), np.array([9, 11], np.int32))

    # When
    send_result(ends[0], BatchResult(3, {Kind.DENSE: dense, Kind.SPARSE: sparse}, 0.5))
    result = receive_result(ends[1])

    # Then
    assert result.rows is not None
    assert [len(rows) for rows in result.rows.values()] == [2, 2]
    assert [piece.values.tolist() for piece in result.rows[Kind.DENSE].pieces()] == [[1, 2], [3, 4]]
    first, second = result.rows[Kind.SPARSE].pieces()
    assert first.indices is not None
    assert second.indices is not None
    assert (first.values.tolist(), first.indices.tolist()) == ([[0.5], [0.25]], [9, 11])
    assert (second.values.shape, second.indices.tolist()) == ((0, 1), [])


def test_a_failure_arrives_with_its_reason(ends: tuple[Connection, Connection]) -> None:
    send_result(ends[0], BatchResult(3, None, 0.5, "out of memory"))

    assert receive_result(ends[1]) == BatchResult(3, None, 0.5, "out of memory")


def test_what_the_engine_says_of_its_models_arrives(ends: tuple[Connection, Connection]) -> None:
    # Given
    card = ModelCard(
        name="m",
        operations=[Operation.EMBED],
        model_type="embedding",
        kinds=[Kind.DENSE],
        max_tokens=9,
        dtype="float32",
        packed=True,
        max_batch_tokens=9,
        tokens_per_s=1,
        architecture="A",
    )
    ready = EngineReady("cpu", [EngineModel(card, InputFormat(tokenizer_json="{}", max_tokens=9))], 2, True)

    # When
    send_ready(ends[0], ready)

    # Then
    assert receive_ready(ends[1]) == ready


def test_the_devices_memory_comes_along_and_is_shown(ends: tuple[Connection, Connection]) -> None:
    # Given
    memory = host_memory()
    assert 0 < memory.allocated < memory.total
    assert 0 < memory.free < memory.total

    # When
    send_result(ends[0], BatchResult(3, None, 0.5, "an error", memory=memory))
    received = receive_result(ends[1]).memory

    # Then
    assert received == memory
    metrics = Metrics(Owner.WORKER)
    show(metrics, Memory(allocated=1, reserved=2, free=3, total=4))
    for kind, size in (("allocated", 1), ("reserved", 2), ("free", 3), ("total", 4)):
        assert f'millrace_device_memory_bytes{{kind="{kind}"}} {size}.0' in metrics.exposition().decode()
