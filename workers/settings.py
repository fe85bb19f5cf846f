"""Settings of a worker."""

from typing import Literal

from pydantic import Field

from shared.model_config import ConfigurationError, ModelConfig
from shared.settings import PREFIX, Settings


class WorkerSettings(Settings):
    """What a worker reads from the environment."""

    device: str = Field(
        "auto",
        description="Where models run. `auto`: on each GPU and MIG slice, in a worker process pinned to it, or on the CPU "
        "if there is none. A list of indices and UUIDs as `nvidia-smi -L` tells them (`0,2`): on those. `cpu`, `cuda`, "
        "`cuda:N`: in a single worker process. `simulated:8x24GiB`: eight worker processes on the CPU that are placed on as "
        "eight GPUs of 24 GiB.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights; `auto` is float32 on CPU, bfloat16 or float16 on CUDA."
    )
    threads: int = Field(0, ge=0, description="CPU threads of the forward pass; 0 means all cores.")
    max_batch_tokens: int = Field(
        0,
        ge=0,
        description="Token budget of one forward pass; 0 means 1024 on CPU; on CUDA the most that the "
        "memory holds and that takes 25 ms, of texts or of images, measured at start.",
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
    engine_patience_s: float = Field(
        10.0,
        gt=0,
        description="The same of a batch that takes longer than this and 50 times as long as its tokens should, by the "
        "speed that was measured: far below the deadline of those that wait behind it.",
    )
    engine_start_timeout_s: float = Field(600.0, gt=0, description="Time for loading and warming up the models.")
    task_events: bool = Field(
        True, description="Tell Flower of each task. Without Flower nobody listens, and this may be turned off."
    )
    only_models: str = Field(
        "",
        description="Names of the configured models that are served here, separated by commas; all when empty. Each worker "
        "process is told its own by `placement` in the models file.",
    )
    worker_name: str = Field(
        "worker",
        description="Name of the worker in Flower and in logs; the device's name is added where there are several.",
    )
    device_label: str = Field(
        "", description="What the worker calls its device in `/stats` and in logs; set by `millrace worker`."
    )
    worker_metrics_host: str = Field("127.0.0.1", description="Address of the workers' Prometheus endpoints.")
    worker_metrics_port: int = Field(
        9808,
        ge=0,
        le=65535,
        description="Port of the worker's Prometheus endpoint; the next ones are those of the next devices. 0 turns it off.",
    )
    worker_metrics_ports: str = Field(
        "",
        pattern=r"^(\d+(,\d+)*)?$",
        description="Prometheus ports of all workers of this machine, separated by commas, which `/targets` on each "
        "of them tells; set by `millrace worker`.",
    )
    engine: str = Field(
        "workers.engine", description="Python module that is run as the engine process; for benchmarks and tests."
    )

    def models(self) -> list[ModelConfig]:
        """The configured models that are to be served here.

        Raises:
            ConfigurationError: The declaration is wrong, or one that is to be served is not in it.
        """
        models = super().models()
        wanted = {name.strip() for name in self.only_models.split(",") if name.strip()}
        if unknown := wanted - {model.name for model in models}:
            known = ", ".join(model.name for model in models)
            raise ConfigurationError(
                f"{PREFIX}ONLY_MODELS names {min(unknown)}, which is not among the configured models: {known}"
            )
        return [model for model in models if not wanted or model.name in wanted]
