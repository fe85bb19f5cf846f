"""Options of an ingest: from a query, from fields of a form (both are text) or from JSON, to a `JobSpec`."""

import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from api import wire
from api.access.caller import ANYONE, Caller
from api.bulk.fields import EventName, WebhookSecret, WebhookUrl
from api.catalog import Catalog
from api.fields import Integer, SomeDimensions
from api.nesting import DEEPEST, is_too_deep
from api.settings import ApiSettings
from shared.bulk.jobs import Delivery, EmbedOptions, JobSpec, Kind, VectorEncoding
from shared.errors import ContradictoryFields, InvalidRequest, UnsupportedByModel
from shared.queues import Operation
from shared.results import Kind as VectorKind
from shared.results import Precision

#: Most bytes of the caller's own metadata, and of what a sink is told, as JSON.
_MOST_OBJECT_BYTES = 16 * 1024


def _small(value: Any) -> Any:
    if isinstance(value, dict) and len(orjson.dumps(value)) > _MOST_OBJECT_BYTES:
        raise ValueError(f"must have at most {_MOST_OBJECT_BYTES} bytes as JSON")
    return value


def _precision(value: Any) -> Any:
    if value not in list(Precision):
        raise ValueError(f"must be one of {', '.join(Precision)}")
    return Precision(value)


JsonObject = Annotated[dict[str, Any], BeforeValidator(_small)]


_NULL: JsonDict = {"type": "null"}
_NONE: JsonDict = {"maxItems": 0}


class Webhook(BaseModel):
    """Where events of the job go: a URL of its own, or an endpoint that is there already."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": [
                {"required": ["url"], "properties": {"url": {"type": "string"}, "endpoint": _NULL}},
                {
                    "required": ["endpoint"],
                    "properties": {"endpoint": {"type": "string"}, "url": _NULL, "secret": _NULL, "events": _NONE},
                },
            ]
        },
    )

    url: WebhookUrl | None = Field(None, description="`https://...`, or `http://` where that is allowed.")
    secret: WebhookSecret | None = Field(
        None, description="`whsec_` and 24 to 64 bytes in base64; one is made when absent."
    )
    events: list[EventName] = Field([], description="Types of events that are sent; all when empty.")
    endpoint: str | None = Field(None, description="Id of a webhook endpoint, in the place of a URL.")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.url is None) == (self.endpoint is None):
            raise ValueError("must have either `url` or `endpoint`")
        if self.endpoint is not None and (self.secret is not None or self.events):
            raise ValueError("`secret` and `events` of an endpoint are its own")
        return self


class CommonOptions(BaseModel):
    """Options that are said in the same way in JSON and in text."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of the model; the default model when absent.")
    dimensions: SomeDimensions | None = Field(None, description="Keep the first so many dimensions.")
    normalize: bool = Field(True, description="Scale vectors to unit length.")
    truncate: bool = Field(True, description="Cut texts that are too long; they are errors otherwise.")
    truncation_side: Literal["right", "left"] = Field("right", description="Where they are cut.")
    input_type: Literal["query", "document"] | None = Field(
        "document", description="What the texts are: chooses the model's prompt for it."
    )
    prompt_name: str | None = Field(None, description="One of the model's prompts by name.")
    precision: Annotated[Precision, BeforeValidator(_precision)] = Field(
        Precision.FLOAT32, description="Number format of dense vectors."
    )
    encoding: VectorEncoding = Field("float", description="How vectors are written down in callbacks.")
    gzip: bool = Field(False, description="Compress the bodies of callbacks.")
    by_reference: bool = Field(False, description="Send the place of the results instead of the results.")
    priority: Integer = Field(0, ge=-100, le=100, description="Jobs of a higher priority go first.")
    metadata: JsonObject | None = Field(None, description="The caller's own; comes back with the job.")
    webhook_endpoint: str | None = Field(None, description="Receiver of events: id of a webhook endpoint.")
    sink: str | None = Field(None, description="Name of a sink of the operator's, where vectors go.")
    sink_options: JsonObject = Field({}, description="What the sink is told, for example the collection.")


class IngestOptions(CommonOptions):
    """What is made of the documents, and where it goes."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"webhook": {"url": "https://indexer.example/vectors"}, "kinds": ["dense"]}},
    )

    kinds: list[Literal["dense", "sparse", "multivector"]] = Field(
        ["dense"], min_length=1, description="Kinds of vectors: `dense`, `sparse`, `multivector`."
    )
    webhook: Webhook | None = Field(None, description="Receiver of events, in the place of `webhook_endpoint`.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if VectorKind.DENSE not in self.kinds and (self.dimensions or self.precision is not Precision.FLOAT32):
            raise ContradictoryFields(
                "`dimensions` and `precision` are of dense vectors, which are not asked for", param="kinds"
            )
        if self.webhook is not None and self.webhook_endpoint is not None:
            raise ContradictoryFields("`webhook` and `webhook_endpoint` exclude each other", param="webhook")
        return self

    def target(self, secret: str | None) -> Webhook | None:
        """The receiver of events, None for none.

        Args:
            secret: From the header that goes with a URL in a query.

        Raises:
            InvalidRequest: There is a secret and no URL, or two secrets.
        """
        webhook = Webhook(endpoint=self.webhook_endpoint) if self.webhook_endpoint is not None else self.webhook
        if secret is None:
            return webhook
        if webhook is None or webhook.url is None or webhook.secret is not None:
            raise InvalidRequest("the header x-webhook-secret goes with the URL of a webhook that has no secret yet")
        return webhook.model_copy(update={"secret": secret})


#: Options that only a job has: results on the same connection go nowhere else.
_OF_JOBS = frozenset(IngestOptions.model_fields) & {
    *("gzip", "by_reference", "priority", "metadata", "webhook", "webhook_endpoint", "sink", "sink_options")
}


def read_options(given: Mapping[str, Any], *, is_text: bool) -> IngestOptions:
    """The options of a request.

    As text they are what `api.bulk.job_queries.IngestFields` documents.

    Args:
        given: By name.
        is_text: Whether they come from a query or a form, where all is text: lists with commas, objects as JSON, a webhook
            as its URL. What comes from JSON is of its own type.

    Raises:
        InvalidRequest: One is not known or not valid; it is named.
        ContradictoryFields: Some do not go together.
    """
    if unknown := sorted(set(given) - set(IngestOptions.model_fields)):
        known = ", ".join(IngestOptions.model_fields)
        raise InvalidRequest(f"there is no option {unknown[0][:40]!r}; there are: {known}", param=unknown[0][:40])
    if is_text:
        given = {name: _from_text(name, value) for name, value in given.items()}
    return wire.validated(IngestOptions, given, strict=not is_text)


def _from_text(name: str, value: str) -> Any:
    match name:
        case "kinds":
            return [part.strip() for part in value.split(",") if part.strip()]
        case "webhook":
            return {"url": value}
        case "metadata" | "sink_options":
            try:
                given = orjson.loads(value)
            except orjson.JSONDecodeError as err:
                raise InvalidRequest(f"`{name}`: must be a JSON object", param=name) from err
            if is_too_deep(value.encode(), given):
                raise InvalidRequest(f"`{name}`: must be nested no deeper than {DEEPEST}", param=name)
            return given
    return value


def refuse_options_of_jobs(given: Mapping[str, Any]) -> None:
    """Refuse what only a job has.

    Raises:
        InvalidRequest: There is such an option; it is named.
    """
    if found := sorted(_OF_JOBS & set(given)):
        raise InvalidRequest(f"`{found[0]}` is for jobs, not for results on the same connection", param=found[0])


def resolved_model(options: IngestOptions, catalog: Catalog) -> str:
    """The own name of the model that is meant.

    Raises:
        ModelNotFound: There is no such model.
        WrongTask: It does not make such vectors.
        UnsupportedByModel: It has not so many dimensions, or no such prompt.
    """
    model = catalog.resolve(options.model, Operation.EMBED, options.kinds)
    card = catalog.card(model)
    if card is not None and options.dimensions and card.dimensions and options.dimensions > card.dimensions:
        most = card.dimensions
        raise UnsupportedByModel(f"model {model} has {most} dimensions, not {options.dimensions}", param="dimensions")
    if card is not None and options.prompt_name is not None and options.prompt_name not in card.prompts:
        prompts = ", ".join(card.prompts) or "none"
        raise UnsupportedByModel(
            f"model {model} has no prompt {options.prompt_name[:40]!r}; its prompts: {prompts}", param="prompt_name"
        )
    return model


def embed_options(options: IngestOptions) -> EmbedOptions:
    """What is made of the documents."""
    return EmbedOptions(
        kinds=list(dict.fromkeys(options.kinds)),
        **options.model_dump(include=set(EmbedOptions.model_fields) - {"kinds"}),
    )


def job_spec(
    options: IngestOptions,
    model: str,
    settings: ApiSettings,
    caller: Caller = ANYONE,
    *,
    job_id: str | None = None,
    endpoint: str | None = None,
) -> JobSpec:
    """The job that is asked for.

    Args:
        options: Of the request.
        model: Own name of the model.
        settings: How long jobs may take, and are kept.
        caller: Whose it is.
        job_id: Its id; a fresh one when None.
        endpoint: Id of the webhook endpoint.
    """
    now = time.time()
    return JobSpec(
        id=job_id or f"job_{secrets.token_hex(12)}",
        kind=Kind.INGEST,
        model=model,
        options=embed_options(options),
        delivery=Delivery(
            endpoint=endpoint,
            **options.model_dump(include={"sink", "sink_options", "encoding", "gzip", "by_reference"}),
        ),
        metadata=options.metadata,
        **caller.owned(),
        priority=options.priority,
        created_at=now,
        expires_at=now + settings.job_timeout_s,
        results_ttl_s=settings.job_results_ttl_s,
    )
