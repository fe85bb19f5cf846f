"""What worker and engine process say to each other: msgpack messages over a socket pair, arrays as little-endian bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

import msgpack
import numpy as np
import numpy.typing as npt

from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.results import Kind
from workers.input_format import InputFormat
from workers.memory import Memory
from workers.rows import BatchRows, Float32Array, Rows
from workers.sequences import Sequences
from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is told at its start."""

    models: Sequence[ModelConfig]
    device: str = "auto"
    dtype: str = "auto"
    #: 0 is all cores.
    threads: int = 0
    #: 0 lets the engine choose by device.
    max_batch_tokens: int = 0
    #: Batches that the worker hands over at a time; 0 lets the engine choose by device.
    batches_in_flight: int = 0
    log_level: str = "warning"
    log_format: str = "text"

    @classmethod
    def of(cls, settings: WorkerSettings) -> Self:
        """What a worker with these settings tells its engine.

        Raises:
            ConfigurationError: The declaration of the models is wrong.
        """
        return cls(
            models=settings.models(),
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            max_batch_tokens=settings.max_batch_tokens,
            batches_in_flight=settings.batches_in_flight,
            log_level=settings.log_level,
            log_format=settings.log_format,
        )


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model that the engine has loaded and run once."""

    card: ModelCard
    input_format: InputFormat
    #: Least and greatest value of each dimension, float32, shape (2, dimensions); None where int8 is not calibrated.
    int8_ranges: Float32Array | None = None


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
    #: What is wanted of it.
    kinds: Sequence[Kind]
    #: Whether nothing else is with the engine: then it may have all cores.
    alone: bool = True


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Rows of a batch, or why there are none."""

    batch: int
    #: None on failure.
    rows: BatchRows | None
    seconds: float
    error: str | None = None
    #: Whether it failed because the device's memory was full: smaller batches may fit.
    out_of_memory: bool = False
    #: Of the device, now and then.
    memory: Memory | None = None


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
    models = [
        (model.card.model_dump(mode="json"), asdict(model.input_format), _array_to_wire(model.int8_ranges))
        for model in ready.models
    ]
    data = {"device": ready.device, "batches_in_flight": ready.batches_in_flight, "parallel": ready.parallel}
    connection.send_bytes(msgpack.packb({**data, "models": models}))


def receive_ready(connection: Connection) -> EngineReady | EngineFailed:
    """The other end of `send_ready`."""
    data = msgpack.unpackb(connection.recv_bytes())
    if "failed" in data:
        return EngineFailed(data["failed"])
    models = [
        EngineModel(ModelCard.model_validate(card), InputFormat(**form), _array_from_wire(ranges))
        for card, form, ranges in data["models"]
    ]
    return EngineReady(data["device"], models, data["batches_in_flight"], data["parallel"])


def send_batch(connection: Connection, batch: Batch) -> None:
    """Worker to engine: run a batch."""
    connection.send_bytes(
        msgpack.packb((batch.number, batch.model, _to_wire(batch.sequences), list(batch.kinds), batch.alone))
    )


def receive_batch(connection: Connection) -> Batch:
    """The other end of `send_batch`."""
    number, model, arrays, kinds, alone = msgpack.unpackb(connection.recv_bytes())
    return Batch(number, model, Sequences(**_from_wire(arrays)), [Kind(kind) for kind in kinds], alone)


def send_result(connection: Connection, result: BatchResult) -> None:
    """Engine to worker."""
    rows = None if result.rows is None else {str(kind): _to_wire(rows) for kind, rows in result.rows.items()}
    memory = None if result.memory is None else astuple(result.memory)
    message = (result.batch, rows, result.seconds, result.error, result.out_of_memory, memory)
    connection.send_bytes(msgpack.packb(message))


def receive_result(connection: Connection) -> BatchResult:
    """The other end of `send_result`."""
    batch, data, seconds, error, out_of_memory, memory = msgpack.unpackb(connection.recv_bytes())
    rows = None if data is None else {Kind(kind): Rows(**_from_wire(arrays)) for kind, arrays in data.items()}
    return BatchResult(batch, rows, seconds, error, out_of_memory, None if memory is None else Memory(*memory))


def _to_wire(record: Sequences | Rows) -> dict[str, Any]:
    """The arrays of a record by name, each as dtype, shape and bytes; those that are None are left out."""
    arrays = ((name, getattr(record, name)) for name in record.__slots__)
    return {name: _array_to_wire(array) for name, array in arrays if array is not None}


def _from_wire(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _array_from_wire(array) for name, array in arrays.items()}


def _array_to_wire(array: npt.NDArray[Any] | None) -> Any:
    return None if array is None else (array.dtype.str, array.shape, array.tobytes())


def _array_from_wire(data: Any) -> Any:
    if data is None:
        return None
    dtype, shape, values = data
    return np.frombuffer(values, dtype).reshape(shape)
