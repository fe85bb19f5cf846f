"""Settings of `millrace serve`."""

from pathlib import Path

from pydantic import Field

from api.settings import RunnerSettings
from shared.settings import default_state_dir
from workers.callbacks.settings import CallbackSettings


class ServeSettings(RunnerSettings, CallbackSettings):
    """What the supervisor reads from the environment, beside what it hands on to the parts."""

    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Folder of the embedded server's append-only file; `~/.local/state/millrace` when not set.",
    )
    flower_host: str = Field(
        "127.0.0.1",
        description="Address that Flower listens on. Elsewhere than on loopback it wants a password: "
        "`FLOWER_BASIC_AUTH=user:password`.",
    )
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower; 0 turns it off.")
    worker_metrics_host: str = Field("127.0.0.1", description="Address of the workers' Prometheus endpoints.")
    worker_metrics_port: int = Field(
        9808, ge=0, le=65535, description="Port of the first worker's Prometheus endpoint; the next ones follow."
    )
    device: str = Field("auto", description="`cpu` keeps `serve` from starting one worker per GPU.")
    start_timeout_s: float = Field(900.0, gt=0, description="Time for the first real answer after the start.")
