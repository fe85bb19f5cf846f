"""Settings that gateway, worker and supervisor share. A field's description is its documentation."""

import os
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.model_config import ConfigurationError, ModelConfig, configured_models
from shared.redis_address import sentinels_of

PREFIX = "MILLRACE_"


def default_state_dir() -> Path:
    """Where this machine's user keeps state, by the XDG rules."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "millrace"


class Settings(BaseSettings):
    """Read from the environment (MILLRACE_*). Only entry points build one; everything else is given it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey server (`redis://`, `rediss://`), or the sentinels of several: "
        "`sentinel://user:password@host:26379;sentinel://host2:26379/0?master=millrace`, with `&sentinel_password=` if they "
        "ask for one, and `&ssl=true&ssl_ca_certs=/ca.pem` for TLS. `millrace serve` starts its own when this is not set.",
    )
    model: str = Field(
        "", description="Models to serve: comma-separated hub ids or folders. Wins over the models file."
    )
    models_file: Path | None = Field(
        None, description="YAML file that lists the models; `models.yaml` in the working folder when not set."
    )
    result_ttl_s: int = Field(120, ge=10, description="How long a result waits in Redis for its gateway, in seconds.")
    store: str = Field(
        "",
        description="Where bulk jobs keep their input and results: a folder, or an fsspec URL such as `s3://bucket/prefix`. "
        "`~/.local/state/millrace/store` when not set. Gateways, job runners and callback workers must share it.",
    )
    drain_s: float = Field(30.0, ge=0, description="How long a stopping process finishes accepted work, in seconds.")
    wedged_after_s: float = Field(
        30.0,
        gt=0,
        description="How long work may wait without anything moving before a worker is called wedged, in seconds: its "
        "`/livez` then says so, and `millrace serve` starts another.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s]+)?$",
        description="Where gateways and workers send traces: an OTLP collector's address over HTTP, such as "
        "`http://collector:4318`; needs the extra `otel`. No traces when not set.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log level shown.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")

    @field_validator("redis_url")
    @classmethod
    def _is_an_address(cls, url: SecretStr) -> SecretStr:
        sentinels_of(url.get_secret_value())
        return url

    def models(self) -> list[ModelConfig]:
        """The models that this deployment should serve.

        Raises:
            ConfigurationError: The declaration is wrong.
        """
        return configured_models(self.model, self.models_file)

    def store_url(self) -> str:
        """The store's folder or URL."""
        return self.store or str(default_state_dir() / "store")

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            ConfigurationError: A variable has a bad value; the message names it.
        """
        try:
            return cls()
        except ValidationError as err:
            first = err.errors()[0]
            variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
            if cls.model_fields[str(first["loc"][0])].annotation is SecretStr:
                # Without its cause, which repeats the value.
                raise ConfigurationError(f"{variable}: {first['msg']}") from None
            raise ConfigurationError(f"{variable}: {first['msg']} (got {first['input']!r})") from err


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_or_exit(settings: type[SettingsT]) -> SettingsT:
    """Settings for an entry point: a bad value ends the process with one sentence and exit status 1."""
    try:
        loaded = settings.load()
        loaded.models()
    except ConfigurationError as err:
        raise SystemExit(f"millrace: {err}") from err
    return loaded
