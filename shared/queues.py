"""Queue and task names: one Redis list per model and lane."""

from enum import StrEnum


class Lane(StrEnum):
    """A priority class of work. Each model has one queue per lane."""

    INTERACTIVE = "interactive"  # somebody waits for the answer
    BULK = "bulk"  # re-indexing: fills what interactive work leaves free


class Operation(StrEnum):
    """What a task asks of a model. The value is the last part of the Celery task's name."""

    EMBED = "embed"  # texts to vectors
    RERANK = "rerank"  # one query and its documents to scores
    CLASSIFY = "classify"  # texts, or pairs of texts, to a score for each label
    TOKENIZE = "tokenize"  # texts to tokens; the model is not run
    DECODE = "decode"  # token ids to texts; the model is not run


_PREFIX = "millrace"


def queue_name(model: str, lane: Lane) -> str:
    """Name of the Redis list (and Celery queue) of one model's lane; also what KEDA watches."""
    return f"{_PREFIX}.{model}.{lane}"


def task_name(operation: Operation) -> str:
    """Celery task name of an operation, as Flower shows it."""
    return f"{_PREFIX}.{operation}"


#: Queue of the callback workers, and the task that delivers one event.
CALLBACK_QUEUE = f"{_PREFIX}.callbacks"
CALLBACK_TASK = f"{_PREFIX}.callback"
