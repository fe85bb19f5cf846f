"""`python -m tests.helpers.telling_engine FD`: an engine like a GPU, in that its time is not the CPU's.

A vector is made of the text's own tokens, so that each answer tells whose it is, and a batch takes time by its tokens. Eight
of them on two cores are eight devices; eight forward passes would be two.
"""

import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from shared.model_card import ModelCard
from shared.model_config import ConfigurationError, ModelConfig
from shared.parent_death import die_with_parent
from shared.queues import Operation
from shared.results import Kind
from workers.engine_protocol import (
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
from workers.input_format import InputFormat
from workers.rows import Rows
from workers.weights import local_folder

DIMENSIONS = 8
#: As on a GPU, a batch holds more than any one request.
_BATCH_TOKENS = 131_072
_TOKENS_PER_S = 40_000.0


def main() -> None:
    """Entry point: take the options from the worker, answer batches until it closes the connection."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    options = receive_options(connection)
    try:
        models = [_model(config, options) for config in options.models]
    except ConfigurationError as err:
        send_ready(connection, EngineFailed(str(err)))
        return
    send_ready(connection, EngineReady("cpu", models, batches_in_flight=2, parallel=False))
    while True:
        try:
            batch = receive_batch(connection)
        except EOFError:
            return
        started = time.perf_counter()
        ends = np.cumsum(batch.sequences.lengths)
        rows = np.array([_vector(ids) for ids in np.split(batch.sequences.ids, ends[:-1])], np.float32)
        time.sleep(max(0.0, len(batch.sequences.ids) / _TOKENS_PER_S - (time.perf_counter() - started)))
        send_result(connection, BatchResult(batch.number, {Kind.DENSE: Rows(rows)}, time.perf_counter() - started))


def _model(config: ModelConfig, options: EngineOptions) -> EngineModel:
    card = ModelCard(
        name=config.name,
        operations=[Operation.EMBED, Operation.RERANK],
        model_type="embedding",
        kinds=[Kind.DENSE],
        dimensions=DIMENSIONS,
        max_tokens=256,
        pooling="none",
        dtype="float32",
        packed=True,
        max_batch_tokens=options.max_batch_tokens or _BATCH_TOKENS,
        tokens_per_s=_TOKENS_PER_S,
        architecture="TellingEngine",
    )
    tokenizer = (local_folder(config) / "tokenizer.json").read_text()
    return EngineModel(card, InputFormat(tokenizer_json=tokenizer, max_tokens=card.max_tokens))


def _vector(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As good as different for different texts, always the same for one."""
    return np.random.default_rng(ids).standard_normal(DIMENSIONS)


if __name__ == "__main__":
    main()
