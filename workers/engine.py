"""The engine process: models on one device, one batch at a time. Run by the worker as `python -m workers.engine FD`.

It is a process of its own because the consumer's GIL slows torch's dispatch (486 against 586 requests/s at concurrency
64), and because a wedged or faulted device can then be killed and replaced without losing the consumer.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

import workers.families
from shared.errors import first_line
from shared.logging import configure_logging, get_logger
from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.parent_death import die_with_parent
from shared.plugins import discover
from shared.results import Kind
from workers import device as devices
from workers.calibration import Cost, token_budget
from workers.completeness import complete_weights, require_safetensors, require_tokenizer
from workers.engine_protocol import (
    Batch,
    BatchResult,
    EngineFailed,
    EngineModel,
    EngineOptions,
    EngineReady,
    receive_batch,
    receive_options,
    send_ready,
    send_result,
)
from workers.family import Family, LoadedModel, Outputs
from workers.input_format import InputFormat
from workers.reader import Reader
from workers.rows import BatchRows, Float32Array, Rows
from workers.sentence_files import SentenceFiles
from workers.sequences import Int32Array, Sequences
from workers.stock_class import refuse_other_positions, refuse_own_code, refuse_unread_settings
from workers.weights import architecture, local_folder, weights_folders

log = get_logger("millrace.engine")

#: Longest warm-up batch on CPU, in tokens: long enough to measure, short enough to start quickly.
_CPU_WARM_UP_TOKENS = 1024
#: Longest reason that a caller is told, in characters.
_LONGEST_REASON = 200
#: Length of the inputs by which the speed is stated.
_WARM_UP_LENGTH = 64
#: Sides of the blank images of a warm-up, in pixels; the first that fits into the model's longest input is taken. On a GPU
#: one that is larger than what any model makes of it, on CPU a small one.
_LARGEST_IMAGES = (2048, 512, 128)
_CPU_IMAGES = (128,)
#: How often the device's memory is looked at, in seconds.
_LOOK_AT_MEMORY_S = 1.0
#: A number format that is slower than so much of float32's speed is told of.
_SLOW_FORMAT = 0.9

#: Makes a batch of so many tokens.
MakeBatch = Callable[[int], Sequences]


class Engine:
    """Loaded models and the device that they share."""

    def __init__(self, options: EngineOptions) -> None:
        """Load and warm up every model.

        Raises:
            ConfigurationError: A model cannot be served.
        """
        self.device = devices.choose_device(options.device)
        self._threads = devices.cpu_threads(options.threads)
        devices.set_threads(self._threads)
        #: On CPU batches run beside each other, each on its share of the cores: within one batch the threads wait for
        #: each other after every operator, and one that the gateway or the worker displaces holds up all (398 against
        #: 490 texts/s on two cores with a neighbour that takes a fifth of one).
        self.parallel = self.device.type == "cpu" and self._threads > 1
        at_a_time = min(2, self._threads) if self.device.type == "cpu" else 2
        self.batches_in_flight = options.batches_in_flight or at_a_time
        self._families = discover(workers.families)
        #: 0 where it is found by measuring.
        self._budget = options.max_batch_tokens or (devices.CPU_BATCH_TOKENS if self.device.type == "cpu" else 0)
        self._default_dtype = options.dtype
        self.models = [self._load(config) for config in options.models]
        if self.device.type == "cpu":
            _warn_of_slow_formats({model.card.dtype for model in self.models})
        devices.synchronize(self.device)  # the weights are there before other streams read them
        self._streams = [devices.Stream(self.device) for _ in self.models]
        memory_bytes = devices.batch_memory(self.device) if self.device.type == "cuda" else 0
        for index, config in enumerate(options.models):
            try:
                self._warm_up(index, config, memory_bytes)
            except (RuntimeError, ValueError, TypeError, IndexError) as err:
                raise ConfigurationError(f"model {config.name} cannot be run: {first_line(err)}") from err
        self.int8_ranges = [
            _int8_ranges(config, model.card) for config, model in zip(options.models, self.models, strict=True)
        ]

    def run(self, model: int, sequences: Sequences, kinds: Collection[Kind], *, alone: bool = True) -> BatchRows:
        """Run a batch and wait for its rows; see `start`."""
        return self.start(model, sequences, kinds, alone=alone).rows()

    def start(self, model: int, sequences: Sequences, kinds: Collection[Kind], *, alone: bool = True) -> "Started":
        """Run a batch on the CPU, or tell a GPU to run it.

        Args:
            model: Index of the model.
            sequences: The batch.
            kinds: What is wanted of it.
            alone: Whether no other batch runs: then it has all threads, otherwise its share.
        """
        if self.parallel:
            # For the calling thread only, as OpenMP counts.
            devices.set_threads(self._threads if alone else max(1, self._threads // self.batches_in_flight))
        with torch.inference_mode(), self._streams[model]():
            return Started(self.models[model].forward(sequences, kinds), sequences.chunk_counts)

    def _load(self, config: ModelConfig) -> LoadedModel:
        started = time.perf_counter()
        folder = local_folder(config)
        try:
            described = architecture(folder)
            wanted = config.dtype or self._default_dtype
            dtype = devices.choose_dtype(wanted, self.device, str(described.get("model_type", "")))
            require_safetensors(weights_folders(folder))
            require_tokenizer(folder)
            family = self._family(config, folder, described)
            refuse_other_positions(config.name, described)
            refuse_unread_settings(config.name, described)
            SentenceFiles.of(folder).refuse_other_layers(config.name)
            if config.family is None:
                refuse_own_code(config.name, described, family.name)
            with complete_weights():
                model: LoadedModel = family.load(config, folder, self.device, dtype)
        except ConfigurationError:
            raise
        except Exception as err:
            raise ConfigurationError(f"model {config.name}: {folder} cannot be loaded: {first_line(err)}") from err
        log.info(
            "model_loaded",
            model=config.name,
            device=devices.name(self.device),
            dtype=model.card.dtype,
            packed=model.card.packed,
            batching=model.card.batching,
            seconds=round(time.perf_counter() - started, 1),
        )
        _note_embeddings(model)
        return model

    def _warm_up(self, index: int, config: ModelConfig, memory_bytes: int) -> None:
        """Run a model as it will be run: find its budget and its speed."""
        model = self.models[index]
        most = model.card.max_tokens
        is_cpu = self.device.type == "cpu"
        sides = _CPU_IMAGES if is_cpu else _LARGEST_IMAGES
        batches: list[MakeBatch] = [partial(_texts, model, most), *_images(model.input_format, sides)]
        for batch in batches:
            self._measure(index, batch(1))  # libraries choose kernels and take workspaces in the first passes
        budget = config.max_batch_tokens or self._budget
        if not budget:
            budget = token_budget(
                lambda tokens: self._cost(index, batches, tokens),
                target_s=devices.CUDA_BATCH_S,
                memory_bytes=memory_bytes // len(self.models),
            )
        tokens = min(budget, _CPU_WARM_UP_TOKENS) if is_cpu else budget
        for count in (1, tokens, tokens):
            seconds = self._measure(index, _texts(model, min(most, _WARM_UP_LENGTH), count))
        model.card = model.card.model_copy(
            update={
                "max_batch_tokens": budget,
                "tokens_per_s": round(tokens / seconds, 1),
                "int8_calibrated": config.int8_ranges is not None,
            }
        )
        log.info(
            "model_warmed_up",
            model=config.name,
            max_batch_tokens=budget,
            tokens_per_s=model.card.tokens_per_s,
        )

    def _cost(self, index: int, batches: Sequence[MakeBatch], tokens: int) -> Cost | None:
        """What the most expensive of some batches of so many tokens takes; None when one does not fit."""
        try:
            devices.reset_peak_memory(self.device)
            seconds = max(self._measure(index, batch(tokens)) for batch in batches)
            return Cost(seconds, devices.peak_memory(self.device))
        except Exception as err:
            if not devices.is_out_of_memory(err):
                raise
        devices.give_back_memory(self.device)  # only here: the exception's frames held the batch's tensors
        return None

    def _measure(self, index: int, batch: Sequences) -> float:
        """Seconds for a batch."""
        started = time.perf_counter()
        self.run(index, batch, self.models[index].card.kinds or [Kind.SCORES])
        return time.perf_counter() - started

    def _family(self, config: ModelConfig, folder: Path, described: Mapping[str, Any]) -> Family:
        if config.family is not None:
            if config.family not in self._families:
                known = ", ".join(self._families)
                raise ConfigurationError(f"model {config.name}: there is no family {config.family}; there are: {known}")
            chosen: Family = self._families[config.family]
            return chosen
        able = [family for family in self._families.values() if family.serves(folder, described)]
        if not able:
            architecture = (described.get("architectures") or ["(none)"])[0]
            raise ConfigurationError(f"model {config.name}: architecture {architecture} is not supported")
        best: Family = max(able, key=lambda family: family.priority)
        return best


class Started:
    """A batch that was started."""

    def __init__(self, outputs: Outputs, chunk_counts: Int32Array | None) -> None:
        self._finished = {kind: rows for kind, rows in outputs.items() if isinstance(rows, Rows)}
        self._copies = devices.HostCopies({kind: rows for kind, rows in outputs.items() if isinstance(rows, Tensor)})
        self._chunk_counts = chunk_counts

    def rows(self) -> BatchRows:
        """Its rows, when they are there."""
        arrived = self._copies.wait()
        return self._finished | {kind: Rows(values, self._chunk_counts) for kind, values in arrived.items()}


def _texts(model: LoadedModel, length: int, tokens: int) -> Sequences:
    """So many tokens in sequences of at most this length."""
    lengths = np.full(-(-tokens // length), length, np.int32)
    lengths[-1] = tokens - length * (len(lengths) - 1)
    # Random, because what sequences begin with in common would be computed once.
    ids = np.random.default_rng(0).integers(5, 100, tokens, dtype=np.int32)
    if (end := getattr(model, "end_of_text", None)) is not None:
        ids[np.cumsum(lengths) - 1] = end
    return Sequences(ids, lengths)


def _images(form: InputFormat, sides: Sequence[int]) -> list[MakeBatch]:
    """What makes batches of images, of the first of these sizes that the model takes; nothing where it takes none."""
    if form.image_processor is None:
        return []
    reader = Reader(form)
    image = next(filter(None, map(reader.blank_image, sides)), None)
    if image is None:
        return []
    return [lambda tokens: Sequences.of([image] * max(1, tokens // reader.cost(image)))]


def _short(err: Exception) -> str:
    """The error for a caller: without the traces that some libraries put into their messages."""
    lines = [line for line in str(err).strip().splitlines() if line.strip()] or [""]
    return lines[-1 if "Traceback" in str(err) else 0][:_LONGEST_REASON]


def _warn_of_slow_formats(dtypes: set[str]) -> None:
    """Tell whoever asked for a number format that this CPU is slower with it, which nothing else would say."""
    for dtype in sorted(dtypes - {"float32"}):
        speed = devices.speed_beside_float32(getattr(torch, dtype))
        if speed < _SLOW_FORMAT:
            log.warning(
                "slow_number_format",
                dtype=dtype,
                speed_beside_float32=round(speed, 2),
                hint="this CPU is faster with MILLRACE_DTYPE=float32, which takes more memory",
            )


def _note_embeddings(model: LoadedModel) -> None:
    """Tell the worker how many ids have an embedding: on a GPU one beyond them would be a fault of the device."""
    base: Any = getattr(model, "base_model", None)
    try:
        embeddings = int(base.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        return  # a model of several towers, say, whose own processor comes with its weights
    model.input_format = replace(model.input_format, embeddings=embeddings)


def _int8_ranges(config: ModelConfig, card: ModelCard) -> Float32Array | None:
    """The calibration of a model's int8 vectors, shape (2, dimensions), or None.

    Raises:
        ConfigurationError: The file is missing or does not fit the model.
    """
    if config.int8_ranges is None:
        return None
    try:
        ranges: Float32Array = np.load(config.int8_ranges, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as err:
        raise ConfigurationError(
            f"model {config.name}: int8_ranges {config.int8_ranges} cannot be read: {err}"
        ) from err
    if wrong := _wrong_with(ranges, card.dimensions or 0):
        raise ConfigurationError(
            f"model {config.name}: int8_ranges {config.int8_ranges} has to hold the least and the greatest value of each of "
            f"{card.dimensions} dimensions, shape (2, {card.dimensions}); {wrong}"
        )
    return ranges


def _wrong_with(ranges: Float32Array, dimensions: int) -> str:
    """Why these are no ranges; nothing if they are.

    Single dimensions without width are: components that are always 0 have none, and sentence-transformers takes them.
    """
    if ranges.shape != (2, dimensions):
        return f"its shape is {ranges.shape}"
    least, greatest = ranges
    if not np.isfinite(ranges).all():
        at = int(np.argmin(np.isfinite(ranges).all(axis=0)))
        return f"dimension {at} goes from {least[at]} to {greatest[at]}, and both have to be finite"
    if (least > greatest).any():
        at = int(np.argmax(least > greatest))
        return f"dimension {at} goes from {least[at]} down to {greatest[at]}"
    if (least == greatest).all():
        return "in every dimension the two are equal: it was made of one vector, or of equal ones"
    return ""


def _now(function: Callable[..., None], *arguments: Any) -> None:
    function(*arguments)


class _Server:
    """Answers batches until the worker closes the connection."""

    def __init__(self, connection: Connection, engine: Engine) -> None:
        self._connection = connection
        self._engine = engine
        self._sending = threading.Lock()
        self._finished_at = 0.0
        self._looked_at = 0.0

    def serve(self) -> None:
        """Run batches one after the other, or beside each other where the engine can.

        On CPU a batch that is alone always runs on this thread: each thread that has run one has OpenMP threads of its own,
        which spin for a while after it and would be in the way of the next one's. On CUDA this thread tells the device what
        to do, and another one waits for it: the next batch is launched before the last one's rows have left.
        """
        threads = self._engine.batches_in_flight if self._engine.parallel else 1
        is_gpu = self._engine.device.type == "cuda"
        with ThreadPoolExecutor(threads, thread_name_prefix="batch") as pool:
            while (batch := self._receive()) is not None:
                if is_gpu:
                    self._start(batch, pool.submit)
                elif batch.alone or not self._engine.parallel:
                    self._start(batch, _now)
                else:
                    pool.submit(self._start, batch, _now)

    def _receive(self) -> Batch | None:
        try:
            return receive_batch(self._connection)
        except EOFError:
            return None

    def _start(self, batch: Batch, then: Callable[..., Any]) -> None:
        """Start a batch, and hand what came of it to `then`: a function with its arguments."""
        began = time.perf_counter()
        try:
            started = self._engine.start(batch.model, batch.sequences, batch.kinds, alone=batch.alone)
        except Exception as err:  # noqa: BLE001 - whatever a batch does, the worker is told and splits it
            then(self._failed, batch, began, err)
        else:
            then(self._finish, batch, began, started)

    def _finish(self, batch: Batch, began: float, started: Started) -> None:
        try:
            rows = started.rows()
        except Exception as err:  # noqa: BLE001 - on CUDA some failures show only here
            self._failed(batch, began, err)
            return
        now = time.perf_counter()
        if self._engine.device.type == "cuda":
            began, self._finished_at = max(began, self._finished_at), now  # what it waited for is not its own time
        self._send(BatchResult(batch.number, rows, now - began))

    def _failed(self, batch: Batch, began: float, err: Exception) -> None:
        sequences = batch.sequences
        log.warning("batch_failed", sequences=len(sequences.lengths), tokens=len(sequences.ids), error=str(err))
        out_of_memory = devices.is_out_of_memory(err)
        if out_of_memory:
            traceback.clear_frames(err.__traceback__)  # they hold the batch's tensors
            devices.give_back_memory(self._engine.device)
        seconds = time.perf_counter() - began
        self._send(BatchResult(batch.number, None, seconds, f"{type(err).__name__}: {_short(err)}", out_of_memory))

    def _send(self, result: BatchResult) -> None:
        with self._sending:
            now = time.monotonic()
            if now - self._looked_at > _LOOK_AT_MEMORY_S:
                self._looked_at = now
                result = replace(result, memory=devices.memory(self._engine.device))
            send_result(self._connection, result)


def quiet_libraries(models: Sequence[ModelConfig]) -> None:
    """Keep progress bars out of the log, and the hub's client off the network when nothing is to be fetched."""
    transformers_logging.disable_progress_bar()
    if all(":" in model.source or os.path.isdir(model.source) for model in models):  # noqa: PTH112
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    """Entry point: take the options from the worker, load, serve."""
    die_with_parent(signal.SIGKILL)  # no engine outlives its worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's business: it drains first
    connection = Connection(int(sys.argv[1]))
    options = receive_options(connection)
    configure_logging(options.log_level, options.log_format)
    quiet_libraries(options.models)
    try:
        engine = Engine(options)
    except ConfigurationError as err:
        _tell(connection, EngineFailed(str(err)))
        return
    models = [
        EngineModel(model.card, model.input_format, ranges)
        for model, ranges in zip(engine.models, engine.int8_ranges, strict=True)
    ]
    ready = EngineReady(devices.name(engine.device), models, engine.batches_in_flight, engine.parallel)
    if _tell(connection, ready):
        _Server(connection, engine).serve()


def _tell(connection: Connection, ready: EngineReady | EngineFailed) -> bool:
    """Answer the worker; False when it was stopped while the models were loaded, which is no fault of the engine's."""
    try:
        send_ready(connection, ready)
    except ConnectionError:
        return False
    return True


if __name__ == "__main__":
    main()
