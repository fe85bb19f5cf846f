"""Settings of `millrace serve`."""

from pathlib import Path

from pydantic import Field

from api.settings import RunnerSettings
from shared.settings import default_state_dir
from workers.callbacks.settings import CallbackSettings
from workers.settings import WorkerSettings


class ServeSettings(RunnerSettings, CallbackSettings, WorkerSettings):
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
    start_timeout_s: float = Field(900.0, gt=0, description="Time for the first real answer after the start.")
