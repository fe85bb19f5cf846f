"""`python -m bench.null_engine FD`: an engine process that answers at once with unit vectors, to measure the rest.

With `BENCH_TOKENS_PER_S` it takes the time of a device of that speed and leaves the cores free: many workers on one machine.

It imports neither torch nor transformers. The model's own tokenizer travels to the worker as from the real engine, so a
measured task is decoded, tokenised, batched, sent here and back, normalised, stored and acknowledged like any other.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.parent_death import die_with_parent
from shared.queues import Operation
from shared.results import Kind
from workers.engine_protocol import (
    Batch,
    BatchResult,
    EngineModel,
    EngineOptions,
    EngineReady,
    receive_batch,
    receive_options,
    send_ready,
    send_result,
)
from workers.input_format import InputFormat
from workers.rows import Float32Array, Rows
from workers.weights import local_folder

#: The real engine's budget on CPU, so that tasks and batches are of the same size.
_BATCH_TOKENS = 1024
#: Different vectors that it answers with, in turns.
_VECTORS = 64
#: Fast enough never to shape a bulk batch.
_TOKENS_PER_S = 1e9


def main() -> None:
    """Entry point: take the options from the worker, answer batches until it closes the connection."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    options = receive_options(connection)
    models = [_model(config, options) for config in options.models]
    send_ready(connection, EngineReady("cpu", models, batches_in_flight=1, parallel=False))
    widths, speed = [model.card.dimensions or 1 for model in models], _tokens_per_s()

    def answer(batch: Batch) -> Float32Array:
        if speed < _TOKENS_PER_S:
            time.sleep(len(batch.sequences.ids) / speed)
        return _unit_rows(len(batch.sequences.lengths), widths[batch.model])

    answer_batches(connection, answer)


def _model(config: ModelConfig, options: EngineOptions) -> EngineModel:
    described = json.loads((local_folder(config) / "config.json").read_text())
    return embedding_model(
        config,
        options,
        dimensions=int(os.environ.get("BENCH_DIMENSIONS", described["hidden_size"])),
        max_tokens=int(os.environ.get("BENCH_MAX_TOKENS", described["max_position_embeddings"])),
        batch_tokens=_BATCH_TOKENS,
        tokens_per_s=_tokens_per_s(),
        architecture="NullEngine",
    )


def _tokens_per_s() -> float:
    return float(os.environ.get("BENCH_TOKENS_PER_S", _TOKENS_PER_S))


def embedding_model(
    config: ModelConfig,
    options: EngineOptions,
    *,
    dimensions: int,
    max_tokens: int,
    batch_tokens: int,
    tokens_per_s: float,
    architecture: str,
) -> EngineModel:
    """What an engine without weights says of a model, whose own tokenizer it hands on.

    Args:
        config: The model.
        options: The worker's.
        dimensions: Of its vectors.
        max_tokens: Of an input.
        batch_tokens: Token budget of a batch where nobody says another.
        tokens_per_s: Its speed.
        architecture: What it calls itself.
    """
    card = ModelCard(
        name=config.name,
        operations=[Operation.EMBED, Operation.RERANK],
        model_type="embedding",
        kinds=[Kind.DENSE],
        dimensions=dimensions,
        max_tokens=max_tokens,
        pooling="none",
        dtype="float32",
        packed=True,
        max_batch_tokens=config.max_batch_tokens or options.max_batch_tokens or batch_tokens,
        tokens_per_s=tokens_per_s,
        architecture=architecture,
    )
    tokenizer = (local_folder(config) / "tokenizer.json").read_text()
    return EngineModel(card, InputFormat(tokenizer_json=tokenizer, max_tokens=max_tokens))


def answer_batches(connection: Connection, answer: Callable[[Batch], Float32Array]) -> None:
    """Answer each batch with a row for each of its sequences, until the worker closes the connection."""
    while True:
        try:
            batch = receive_batch(connection)
        except EOFError:
            return
        started = time.perf_counter()
        rows = {Kind.DENSE: Rows(answer(batch))}
        send_result(connection, BatchResult(batch.number, rows, time.perf_counter() - started))


@cache
def _unit_vectors(width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random ones, whose numbers take as many digits as a model's."""
    rows = np.random.default_rng(0).standard_normal((_VECTORS, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _unit_rows(count: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.resize(_unit_vectors(width), (count, width))


if __name__ == "__main__":
    main()
