"""What a batch is asked for with: OpenAI's fields, and those that go beyond them."""

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from api import schemas
from api.bulk.file_routes import ExpiresAfter
from api.bulk.ingest_options import JsonObject, Webhook
from api.fields import Documented, Integer

#: Most requests of a batch that come in its own body.
MOST_INLINE = 10_000
#: Most pairs of a batch's metadata.
_MOST_METADATA = 16
#: How long a batch may take: up to 30 days, which files are kept for, in days or hours.
_WINDOW = re.compile("^(([1-9]|[12][0-9]|30)d|([1-9][0-9]?|[1-6][0-9]{2}|7[01][0-9]|720)h)$")
_HOURS = {"h": 1, "d": 24}


def _window(value: Any) -> Any:
    if not isinstance(value, str) or _WINDOW.fullmatch(value) is None:
        raise ValueError("must be hours or days like `24h` or `7d`, at most `720h`")
    return value


def _or(default: Any) -> BeforeValidator:
    """Null says nothing, as clients mean it."""
    return BeforeValidator(lambda value: default if value is None else value)


MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class BatchBody(BaseModel):
    """Body of `POST /v1/batches`: OpenAI's, and what goes beyond it."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                schemas.without(schemas.given("input_file_id"), "requests"),
                schemas.without(schemas.given("requests"), "input_file_id"),
            ],
            "example": {"input_file_id": "file-abc", "endpoint": "/v1/embeddings", "completion_window": "24h"},
        }
    )

    input_file_id: str | None = Field(None, description="An uploaded file of requests, one JSON object a line.")
    requests: list[dict[str, Any]] | None = Field(
        None,
        min_length=1,
        max_length=MOST_INLINE,
        description=f"Up to {MOST_INLINE} requests, in the place of a file.",
    )
    endpoint: str = Field(description="Path that the requests are for.")
    completion_window: Annotated[
        str, Documented(type=["string", "null"], pattern=_WINDOW.pattern), BeforeValidator(_window), _or("24h")
    ] = Field("24h", description="After this time the batch expires with what it has, `<n>h` or `<n>d`.")
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        None, max_length=_MOST_METADATA, description="The caller's own; comes back with the batch."
    )
    output_expires_after: ExpiresAfter | None = Field(None, description="When the output files go.")
    request_params: Annotated[JsonObject, Documented(type=["object", "null"]), _or({})] = Field(
        {}, description="Fields of every body that has none of its own, for example `model` (Voyage); 16 KiB at most."
    )
    webhook: Webhook | None = Field(None, description="Receiver of the batch's events.")
    priority: Annotated[Integer, Documented(type=["integer", "null"]), _or(0)] = Field(
        0, ge=-100, le=100, description="Batches and jobs of a higher priority go first."
    )

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        if (self.input_file_id is None) == (self.requests is None):
            raise ValueError("a batch has either `input_file_id` or `requests`")
        return self

    @property
    def window_s(self) -> float:
        """The completion window in seconds."""
        return int(self.completion_window[:-1]) * _HOURS[self.completion_window[-1]] * 3600.0
