"""Settings of a callback worker."""

from pydantic import Field

from shared.bulk.settings import WebhookSettings


class CallbackSettings(WebhookSettings):
    """What a callback worker reads from the environment, beside what it has in common with gateway and job runner."""

    callbacks_metrics_host: str = Field(
        "127.0.0.1", description="Address of the callback worker's Prometheus endpoint."
    )
    callbacks_metrics_port: int = Field(
        9806, ge=0, le=65535, description="Port of the callback worker's Prometheus endpoint; 0 turns it off."
    )
