"""Settings of a worker."""

from typing import Literal

from pydantic import Field

from shared.settings import Settings


class WorkerSettings(Settings):
    """What a worker reads from the environment."""

    device: str = Field("auto", description="`cpu`, `cuda`, `cuda:N`, or `auto`: the first GPU if there is one.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights; `auto` is float32 on CPU, bfloat16 or float16 on CUDA."
    )
    threads: int = Field(0, ge=0, description="CPU threads of the forward pass; 0 means all cores.")
    max_batch_tokens: int = Field(
        0,
        ge=0,
        description="Token budget of one forward pass; 0 means 1024 on CPU; on CUDA the most that the "
        "memory holds and that takes 25 ms, measured at start.",
    )
    batches_in_flight: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches handed to the engine process at a time. On CUDA they run one after the other and hide the "
        "way there and back; on CPU they run at the same time, each on its share of the cores. 0 means 2, or 1 on one core.",
    )
    bulk_batch_s: float = Field(
        0.15,
        gt=0,
        description="Longest a batch that bulk work fills may take, since interactive work waits for it; twice that while "
        "there has been no interactive work for five seconds.",
    )
    bulk_aging_s: float = Field(
        2.0, ge=0, description="Bulk work that waited longer gets a guaranteed tenth of each batch."
    )
    engine_timeout_s: float = Field(
        120.0, gt=0, description="A batch that takes longer is a wedged device: the engine process is replaced."
    )
    engine_start_timeout_s: float = Field(600.0, gt=0, description="Time for loading and warming up the models.")
    task_events: bool = Field(
        True, description="Tell Flower of each task. Without Flower nobody listens, and this may be turned off."
    )
    worker_name: str = Field("worker", description="Name of the worker in Flower and in logs.")
    worker_metrics_host: str = Field("127.0.0.1", description="Address of the worker's Prometheus endpoint.")
    worker_metrics_port: int = Field(
        9808, ge=0, le=65535, description="Port of the worker's Prometheus endpoint; 0 turns it off."
    )
    engine: str = Field(
        "workers.engine", description="Python module that is run as the engine process; for benchmarks and tests."
    )
