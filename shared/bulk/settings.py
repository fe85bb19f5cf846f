"""Settings of callbacks and sinks, which gateway, job runner and callback workers share."""

from pathlib import Path

from pydantic import Field, field_validator

from shared.addresses import AllowedHosts
from shared.settings import Settings

#: Seconds before each attempt but the first, as Standard Webhooks 1.0 proposes: three days in all.
_RETRIES_S = "5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400"


class WebhookSettings(Settings):
    """What everything that has to do with callbacks reads from the environment."""

    public_url: str = Field(
        "", description="URL of this service as receivers of callbacks reach it; goes before the paths in them."
    )
    sinks_file: Path | None = Field(
        None, description="YAML file of the sinks that jobs may name; `sinks.yaml` in the working folder when not set."
    )
    webhook_hosts: str = Field(
        "",
        description="Comma-separated hosts (`host`, `host:port`) and networks (`10.1.0.0/16`) that callbacks may be sent to "
        "though their addresses are not public, and by plain http.",
    )
    webhook_timeout_s: float = Field(20.0, gt=0, description="How long a receiver may take to answer, in seconds.")
    webhook_retries_s: str = Field(
        _RETRIES_S,
        description="Seconds before each further attempt of a callback, comma-separated; up to a fifth is added at random. "
        "After the last one the callback is given up.",
    )
    webhook_concurrency: int = Field(4, ge=1, description="Callbacks that are under way to one receiver at a time.")
    callback_threads: int = Field(
        64,
        ge=1,
        le=1024,
        description="Callbacks that one callback worker has under way at a time; new receivers have at most half of them, "
        "slow ones a quarter.",
    )
    webhook_lease_s: float = Field(
        60.0, gt=0, description="How long a callback worker may be silent before its callbacks are given to another."
    )
    webhook_body_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Largest body of a callback; larger results are sent as the URL that they can be read from.",
    )

    @field_validator("webhook_hosts")
    @classmethod
    def _hosts_are_valid(cls, hosts: str) -> str:
        AllowedHosts.listed(hosts)
        return hosts

    @field_validator("webhook_retries_s")
    @classmethod
    def _retries_are_numbers(cls, listed: str) -> str:
        if any(delay < 0 for delay in _numbers(listed)):
            raise ValueError("delays are seconds, 0 or more")
        return listed

    def retry_delays(self) -> list[float]:
        """Seconds before each attempt but the first."""
        return _numbers(self.webhook_retries_s)

    def allowed_webhook_hosts(self) -> AllowedHosts:
        """Hosts that callbacks may be sent to though they are internal."""
        return AllowedHosts.listed(self.webhook_hosts)


def _numbers(listed: str) -> list[float]:
    return [float(part) for part in listed.split(",") if part.strip()]
