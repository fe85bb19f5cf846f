"""What worker and engine process say to each other: msgpack messages over a socket pair, arrays as little-endian bytes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgpack
import numpy as np

from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from workers.sequences import Sequences


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is told at its start."""

    models: Sequence[ModelConfig]
    device: str
    dtype: str
    threads: int
    #: 0 lets the engine choose by device.
    max_batch_tokens: int
    #: Batches that the worker hands over at a time; 0 lets the engine choose by device.
    batches_in_flight: int
    log_level: str
    log_format: str


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model that the engine has loaded and run once."""

    card: ModelCard
    tokenizer_json: str
    takes_pairs: bool


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The engine takes batches."""

    device: str
    models: Sequence[EngineModel]
    #: Batches that it wants at a time.
    batches_in_flight: int
    #: Whether they run at the same time, each on cores of its own (CPU), or one after the other (CUDA).
    parallel: bool


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine cannot start; the reason is one sentence for the operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for one forward pass."""

    number: int
    #: Index of the model.
    model: int
    sequences: Sequences
    #: Whether nothing else is with the engine: then it may have all cores.
    alone: bool = True


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Rows of a batch, or why there are none."""

    batch: int
    #: Shape (sequences, width), float32; None on failure.
    rows: np.ndarray[Any, np.dtype[np.float32]] | None
    seconds: float
    error: str | None = None


def send_options(connection: Connection, options: EngineOptions) -> None:
    """Worker to engine, once."""
    data = asdict(options)
    data["models"] = [model.model_dump(mode="json") for model in options.models]
    connection.send_bytes(msgpack.packb(data))


def receive_options(connection: Connection) -> EngineOptions:
    """The other end of `send_options`."""
    data = msgpack.unpackb(connection.recv_bytes())
    data["models"] = [ModelConfig.model_validate(model) for model in data["models"]]
    return EngineOptions(**data)


def send_ready(connection: Connection, ready: EngineReady | EngineFailed) -> None:
    """Engine to worker, once."""
    if isinstance(ready, EngineFailed):
        connection.send_bytes(msgpack.packb({"failed": ready.reason}))
        return
    models = [(model.card.model_dump(mode="json"), model.tokenizer_json, model.takes_pairs) for model in ready.models]
    data = {"device": ready.device, "batches_in_flight": ready.batches_in_flight, "parallel": ready.parallel}
    connection.send_bytes(msgpack.packb({**data, "models": models}))


def receive_ready(connection: Connection) -> EngineReady | EngineFailed:
    """The other end of `send_ready`."""
    data = msgpack.unpackb(connection.recv_bytes())
    if "failed" in data:
        return EngineFailed(data["failed"])
    models = [EngineModel(ModelCard.model_validate(card), text, pairs) for card, text, pairs in data["models"]]
    return EngineReady(data["device"], models, data["batches_in_flight"], data["parallel"])


def send_batch(connection: Connection, batch: Batch) -> None:
    """Worker to engine: run a batch."""
    sequences = batch.sequences
    types = None if sequences.type_ids is None else sequences.type_ids.tobytes()
    arrays = (sequences.ids.tobytes(), types, sequences.lengths.tobytes())
    connection.send_bytes(msgpack.packb((batch.number, batch.model, *arrays, batch.alone)))


def receive_batch(connection: Connection) -> Batch:
    """The other end of `send_batch`."""
    number, model, ids, types, lengths, alone = msgpack.unpackb(connection.recv_bytes())
    sequences = Sequences(_int32(ids), None if types is None else _int32(types), _int32(lengths))
    return Batch(number, model, sequences, alone)


def send_result(connection: Connection, result: BatchResult) -> None:
    """Engine to worker."""
    rows = result.rows
    shape, data = (None, None) if rows is None else (rows.shape, rows.tobytes())
    connection.send_bytes(msgpack.packb((result.batch, shape, data, result.seconds, result.error)))


def receive_result(connection: Connection) -> BatchResult:
    """The other end of `send_result`."""
    batch, shape, data, seconds, error = msgpack.unpackb(connection.recv_bytes())
    rows = None if data is None else np.frombuffer(data, dtype="<f4").reshape(shape)
    return BatchResult(batch, rows, seconds, error)


def _int32(data: bytes) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.frombuffer(data, dtype="<i4")
