"""Settings of `millrace serve` and `millrace flower`."""

import re
from ipaddress import ip_address
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from api.settings import RunnerSettings
from shared.settings import Settings, default_state_dir
from workers.callbacks.settings import CallbackSettings

#: A user and a password, in letters that every browser sends alike; Flower fails on others.
_CREDENTIALS = re.compile(r"[!-9;-~]+:[!-~]+")
_PREFIX = re.compile(r"[\w.~/-]*")


class FlowerSettings(Settings):
    """What Flower reads from the environment."""

    flower_host: str = Field("127.0.0.1", description="Address that Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower; 0 turns it off in `millrace serve`.")
    flower_password: SecretStr = Field(
        SecretStr(""),
        validate_default=True,
        description="`user:password` that Flower asks for. Needed where `MILLRACE_FLOWER_HOST` is not this machine's own "
        "loopback address.",
    )
    flower_url_prefix: str = Field(
        "", description="Path under which a proxy shows Flower, such as `flower`; the proxy passes it on."
    )

    @field_validator("flower_password")
    @classmethod
    def _is_there_where_others_can_ask(cls, password: SecretStr, info: ValidationInfo) -> SecretStr:
        given, host = password.get_secret_value(), info.data.get("flower_host", "")
        if given and not _CREDENTIALS.fullmatch(given):
            raise ValueError(
                "it has to be a user and a password with a colon between, of printable ASCII without spaces"
            )
        if not given and info.data.get("flower_port") and not _is_loopback(host):
            raise ValueError(
                f"it has to be set to user:password, because MILLRACE_FLOWER_HOST={host} lets others than this machine in"
            )
        return password

    @field_validator("flower_url_prefix")
    @classmethod
    def _is_a_path(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("it has to be a path of letters, digits and . _ ~ / -")
        return prefix.strip("/")


class ServeSettings(RunnerSettings, CallbackSettings, FlowerSettings):
    """What the supervisor reads from the environment, beside what it hands on to the parts."""

    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="Folder of the embedded server's append-only file; `~/.local/state/millrace` when not set.",
    )
    worker_metrics_host: str = Field("127.0.0.1", description="Address of the workers' Prometheus endpoints.")
    worker_metrics_port: int = Field(
        9808, ge=0, le=65535, description="Port of the first worker's Prometheus endpoint; the next ones follow."
    )
    device: str = Field("auto", description="`cpu` keeps `serve` from starting one worker per GPU.")
    start_timeout_s: float = Field(900.0, gt=0, description="Time for the first real answer after the start.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
