"""Routes of webhook endpoints, as OpenAI's clients manage them."""

import time
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from api import schemas, wire
from api.access.caller import caller_of
from api.bulk.answers import Respond, add_route, json_answer, optional_body
from api.bulk.callback_routes import CallbackRoutes
from api.bulk.fields import EventName, WebhookSecret, WebhookUrl
from api.bulk.idempotency import REPLAYED_HEADER, Idempotency
from api.bulk.pages import Page, PageQuery, page_of
from api.bulk.paths import PREFIXES
from api.settings import ApiSettings
from shared.bulk import signing
from shared.bulk.event_bodies import sample_event, write_body
from shared.bulk.events import EventType
from shared.bulk.jobs import WebhookEndpoint
from shared.bulk.sending import NotSent, Sender
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry, checked_event, signing_secrets
from shared.errors import InvalidRequest

_TAG = "webhooks"
_BODY_BYTES = 64 * 1024
#: Longest list in a body that is worth validating.
_MOST_TYPES = 1_000
_SUBSCRIPTION = (
    "Types of events that it gets: those that say how a batch or a job ended, of each one; `job.results` of those jobs "
    "that name it."
)
_NAME = "What you call it."
_URL = "Where events are sent: `https://...`, or `http://...` where an operator has allowed that."


class CreateEndpoint(BaseModel):
    """Body of `POST /v1/webhook_endpoints`."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "example": {
                "name": "indexer",
                "url": "https://indexer.example/vectors",
                "event_types": ["job.results", "job.completed"],
            }
        },
    )

    name: str = Field(min_length=1, max_length=256, description=_NAME)
    url: WebhookUrl = Field(description=_URL)
    event_types: list[EventName] = Field(min_length=1, description=_SUBSCRIPTION)
    secret: WebhookSecret | None = Field(
        None, description="Your own signing secret, `whsec_...`; a fresh one when absent."
    )


class UpdateEndpoint(BaseModel):
    """Body of `POST /v1/webhook_endpoints/{id}`; an endpoint that was disabled gets events again."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"example": {"event_types": ["job.completed", "job.failed"]}},
    )

    name: str | None = Field(None, min_length=1, max_length=256, description=_NAME)
    url: WebhookUrl | None = Field(None, description=_URL)
    event_types: list[EventName] | None = Field(None, min_length=1, description=_SUBSCRIPTION)


class RotateSecret(BaseModel):
    """Body of `POST /v1/webhook_endpoints/{id}/rotate_secret`."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"example": {"keep_old_secret_active_for_24_hours": True}},
    )

    keep_old_secret_active_for_24_hours: bool = Field(
        False, description="Sign with both until then, so that receivers can change theirs."
    )


class TestEndpoint(BaseModel):
    """Body of `POST /v1/webhook_endpoints/{id}/test`."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"example": {"event_type": "job.completed"}},
    )

    event_type: EventName = Field(description="Type of the event that is made up and sent.")


class EndpointObject(BaseModel):
    """A webhook endpoint."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str] = Field(description=_SUBSCRIPTION)
    created_at: int
    updated_at: int | None = None
    signing_secret_hint: str
    disabled: str | None = Field(None, description="Why it gets nothing any more.")


class EndpointWithSecret(EndpointObject):
    """A webhook endpoint with its secret, which is shown when it is made or rotated and never again."""

    signing_secret: str


class EndpointDeleted(BaseModel):
    """Response of `DELETE /v1/webhook_endpoints/{id}`."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EndpointTested(BaseModel):
    """Response of `POST /v1/webhook_endpoints/{id}/test`."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: EventType
    status_code: int = Field(description="What the endpoint answered.")
    success: Literal[True] = True


class EventTypes(BaseModel):
    """Response of `GET /v1/webhook_event_types`."""

    object: Literal["list"] = "list"
    data: list[EventType]


class EndpointList(Page[EndpointObject]):
    """Some webhook endpoints, the newest first."""


def add_webhook_routes(app: FastAPI, *, redis: Redis, table: JobTable, settings: ApiSettings) -> None:
    """Add the routes of webhook endpoints and of jobs' callbacks."""
    WebhookRoutes(redis, settings).add(app)
    CallbackRoutes(redis, table, settings).add(app)


class WebhookRoutes:
    """Answers them."""

    def __init__(self, redis: Redis, settings: ApiSettings) -> None:
        self._settings = settings
        self._registry = WebhookRegistry(redis, settings.allowed_webhook_hosts())
        self._idempotency = Idempotency(redis)

    def add(self, app: FastAPI) -> None:
        """Add the routes to the gateway."""
        every = [f"{prefix}/webhook_endpoints" for prefix in PREFIXES]
        each = [f"{path}/{{endpoint_id}}" for path in every]
        rotates, tests = [f"{path}/rotate_secret" for path in each], [f"{path}/test" for path in each]
        types = [f"{prefix}/webhook_event_types" for prefix in PREFIXES]
        routes: list[tuple[str, list[str], Respond, str, type[BaseModel] | None, type[BaseModel]]] = [
            ("POST", every, self.create, "Add a receiver of callbacks", CreateEndpoint, EndpointWithSecret),
            ("GET", each, self.show, "Show a receiver of callbacks", None, EndpointObject),
            ("POST", each, self.update, "Change a receiver of callbacks", UpdateEndpoint, EndpointObject),
            ("DELETE", each, self.delete, "Remove a receiver of callbacks", None, EndpointDeleted),
            ("POST", rotates, self.rotate_secret, "Replace a signing secret", RotateSecret, EndpointWithSecret),
            ("POST", tests, self.test, "Send a sample event now", TestEndpoint, EndpointTested),
            ("GET", types, self.event_types, "List types of events", None, EventTypes),
        ]
        for method, paths, respond, summary, model, shown in routes:
            schema = None if model is None else schemas.standalone(model)
            headers = [REPLAYED_HEADER] if model is CreateEndpoint else []
            add_route(
                *(app, method, paths, respond),
                summary=summary,
                tag=_TAG,
                body=None if schema is None else {"application/json": schema},
                is_body_optional=schema is not None and "required" not in schema,
                shown=shown,
                headers=headers,
            )
        listed = "List receivers of callbacks"
        add_route(app, "GET", every, self.list, summary=listed, tag=_TAG, query=PageQuery, shown=EndpointList)

    async def create(self, request: Request) -> Response:
        """Add an endpoint."""
        data = await _json(request)

        async def respond() -> Response:
            body = wire.validated(CreateEndpoint, data, strict=True)
            tenant = caller_of(request).tenant
            endpoint = self._registry.new(
                body.url, secret=body.secret, events=body.event_types, name=body.name, tenant=tenant
            )
            await self._registry.keep(endpoint)
            return json_answer(_json_of(_with_secret(endpoint)))

        return await self._idempotency.once(request, "/v1/webhook_endpoints", data, respond)

    async def list(self, request: Request) -> Response:
        """Some endpoints, the newest first."""
        query = wire.validated(PageQuery, dict(request.query_params))
        tenant = caller_of(request).tenant
        found = await self._registry.listed(after=query.after, limit=query.limit + 1, tenant=tenant)
        return json_answer(page_of(EndpointList, [_shown(endpoint) for endpoint in found], query.limit))

    async def show(self, request: Request) -> Response:
        """One endpoint."""
        return json_answer(_json_of(_shown(await self._get(request))))

    async def update(self, request: Request) -> Response:
        """Change an endpoint."""
        body = wire.validated(UpdateEndpoint, await _json(request), strict=True)
        endpoint = await self._get(request)
        changed = await self._registry.update(endpoint.id, url=body.url, events=body.event_types, name=body.name)
        return json_answer(_json_of(_shown(changed)))

    async def delete(self, request: Request) -> Response:
        """Remove an endpoint."""
        endpoint = await self._get(request)
        await self._registry.delete(endpoint)
        return json_answer(EndpointDeleted(id=endpoint.id).model_dump())

    async def rotate_secret(self, request: Request) -> Response:
        """Give an endpoint a fresh secret."""
        body = wire.validated(RotateSecret, await _json(request), strict=True)
        endpoint = await self._get(request)
        rotated = await self._registry.rotate_secret(endpoint.id, keep_old=body.keep_old_secret_active_for_24_hours)
        return json_answer(_json_of(_with_secret(rotated)))

    async def test(self, request: Request) -> Response:
        """Send a sample event, and tell how the endpoint answered."""
        asked = wire.validated(TestEndpoint, await _json(request), strict=True)
        kind = checked_event(asked.event_type, param="event_type")
        endpoint = await self._get(request)
        event_id = f"evt_test_{endpoint.id}_{time.time_ns():x}"
        body = write_body(sample_event(event_id, kind), "float", compress=False)
        signed = signing.headers(event_id, int(time.time()), body.content, signing_secrets(endpoint))
        settings = self._settings
        sender = Sender(settings.allowed_webhook_hosts(), timeout_s=settings.webhook_timeout_s)
        try:
            answer = await sender.post(endpoint.url, body.content, {**body.headers(), **signed})
        except NotSent as err:
            raise InvalidRequest(f"the sample event was not delivered: {err}", param="url") from err
        finally:
            await sender.aclose()
        tested = EndpointTested(webhook_endpoint_id=endpoint.id, event_type=kind, status_code=answer.status)
        return json_answer(tested.model_dump())

    async def event_types(self, _: Request) -> Response:
        """The types of events that there are."""
        return json_answer(EventTypes(data=list(EventType)).model_dump())

    async def _get(self, request: Request) -> WebhookEndpoint:
        """The endpoint that a path names, if it is the caller's."""
        return await self._registry.get(request.path_params["endpoint_id"], tenant=caller_of(request).tenant)


async def _json(request: Request) -> dict[str, Any]:
    """The body; a route whose fields are all optional may have none."""
    return await optional_body(request, limit_bytes=_BODY_BYTES, most_inputs=_MOST_TYPES)


def _shown(endpoint: WebhookEndpoint) -> EndpointObject:
    return EndpointObject(
        id=endpoint.id,
        name=endpoint.name or "",
        url=endpoint.url,
        event_types=endpoint.events,
        created_at=int(endpoint.created_at),
        updated_at=None if endpoint.updated_at is None else int(endpoint.updated_at),
        signing_secret_hint=f"whsec_...{endpoint.secrets[0][0][-4:]}",
        disabled=endpoint.disabled or None,
    )


def _with_secret(endpoint: WebhookEndpoint) -> EndpointObject:
    return EndpointWithSecret(**_shown(endpoint).model_dump(), signing_secret=endpoint.secrets[0][0])


def _json_of(endpoint: EndpointObject) -> dict[str, Any]:
    return endpoint.model_dump(exclude_none=True)
