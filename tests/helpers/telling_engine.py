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

from bench.null_engine import answer_batches, embedding_model
from shared.model_config import ConfigurationError, ModelConfig
from shared.parent_death import die_with_parent
from workers.engine_protocol import (
    Batch,
    EngineFailed,
    EngineModel,
    EngineOptions,
    EngineReady,
    receive_options,
    send_ready,
)
from workers.rows import Float32Array

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
    answer_batches(connection, _answer)


def _model(config: ModelConfig, options: EngineOptions) -> EngineModel:
    return embedding_model(
        config,
        options,
        dimensions=DIMENSIONS,
        max_tokens=256,
        batch_tokens=_BATCH_TOKENS,
        tokens_per_s=_TOKENS_PER_S,
        architecture="TellingEngine",
    )


def _answer(batch: Batch) -> Float32Array:
    started = time.perf_counter()
    ends = np.cumsum(batch.sequences.lengths)
    rows = np.array([_vector(ids) for ids in np.split(batch.sequences.ids, ends[:-1])], np.float32)
    time.sleep(max(0.0, len(batch.sequences.ids) / _TOKENS_PER_S - (time.perf_counter() - started)))
    return rows


def _vector(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As good as different for different texts, always the same for one."""
    return np.random.default_rng(ids).standard_normal(DIMENSIONS)


if __name__ == "__main__":
    main()
