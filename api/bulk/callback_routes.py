"""Routes of a job's callbacks: what became of them, and sending them again."""

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from api import schemas, wire
from api.access.caller import caller_of
from api.bulk.answers import add_route, json_answer, optional_body
from api.bulk.job_object import pending_callbacks
from api.bulk.pages import Page, PageQuery, page_of
from api.settings import ApiSettings
from shared.bulk.event_table import EventTable
from shared.bulk.events import WHOLE_JOB, Event, EventState, Target, TargetKind
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import NotStored

_TAG = "webhooks"
_MOST_CALLBACKS = 1_000
#: Largest body: a list of ids.
_BODY_BYTES = 1024 * 1024


class _CallbacksQuery(PageQuery):
    model_config = ConfigDict(extra="forbid")

    state: EventState | None = Field(None, description="Only those in this state.")
    limit: int = Field(100, ge=1, le=_MOST_CALLBACKS)


class Replay(BaseModel):
    """Body of `POST /v1/jobs/{id}/callbacks/replay`; may be absent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"events": ["evt_abc"]}})

    events: list[str] | None = Field(None, max_length=_MOST_CALLBACKS, description="Ids; all dead ones when absent.")


class Replayed(BaseModel):
    """Response of `POST /v1/jobs/{id}/callbacks/replay`."""

    object: Literal["callback.replay"] = "callback.replay"
    job_id: str
    replayed: list[str] = Field(description="Ids of the callbacks that are sent again.")


class CallbackObject(BaseModel):
    """An event of a job on its way to a receiver."""

    id: str = Field(description="What the receiver gets as `webhook-id`.")
    object: Literal["callback"] = "callback"
    type: str
    segment: int | None = Field(description="Of the results that it carries; null when it is about the whole job.")
    target: dict[str, str]
    state: EventState
    attempts: int
    created_at: int
    next_attempt_at: float | None
    log: list[dict[str, Any]] = Field(description="The last attempts, the newest last: at, status, error, ms.")


class CallbackList(Page[CallbackObject]):
    """A job's callbacks, the oldest first: all that are pending or dead, and the last that were delivered."""

    delivered: int
    pending: int
    dead: int
    stopped: str | None = Field(description="Why the job gets no more callbacks.")


class CallbackRoutes:
    """Answers them."""

    def __init__(self, redis: Redis, table: JobTable, settings: ApiSettings) -> None:
        self._table = table
        self._events = EventTable(redis)
        self._registry = WebhookRegistry(redis, settings.allowed_webhook_hosts())

    def add(self, app: FastAPI) -> None:
        """Add the routes to the gateway."""
        path, body = "/v1/jobs/{job_id}/callbacks", {"application/json": schemas.standalone(Replay)}
        listed = "Show what became of a job's callbacks"
        add_route(app, "GET", [path], self.show, summary=listed, tag=_TAG, query=_CallbacksQuery, shown=CallbackList)
        again = "Send callbacks of a job again"
        add_route(
            app,
            "POST",
            [f"{path}/replay"],
            self.replay,
            summary=again,
            tag=_TAG,
            body=body,
            is_body_optional=True,
            shown=Replayed,
            status=202,
        )

    async def show(self, request: Request) -> Response:
        """Its callbacks and their attempts."""
        job = await self._table.get(request.path_params["job_id"], tenant=caller_of(request).tenant)
        query = wire.validated(_CallbacksQuery, dict(request.query_params))
        found = await self._events.of_job(job.id, frozenset([query.state] if query.state else EventState))
        if query.after is not None:
            places = [place for place, event in enumerate(found) if event.id == query.after]
            if not places:
                raise NotStored(f"nothing called {query.after[:160]!r} is here to start after", param="after")
            found = found[places[0] + 1 :]
        page = page_of(
            CallbackList,
            [_callback(event) for event in found[: query.limit + 1]],
            query.limit,
            delivered=job.callbacks_delivered,
            pending=pending_callbacks(job),
            dead=job.callbacks_dead,
            stopped=job.callbacks_stopped or None,
        )
        return json_answer(page)

    async def replay(self, request: Request) -> Response:
        """Some events, or all dead ones; a job whose callbacks were stopped goes on with them."""
        job = await self._table.get(request.path_params["job_id"], tenant=caller_of(request).tenant)
        wanted = wire.validated(Replay, await _options(request), strict=True).events
        remembered = await self._events.of_job(job.id)
        chosen = [event for event in remembered if event.state is EventState.DEAD]
        if wanted is not None:
            by_id = {event.id: event for event in remembered}
            for event_id in wanted:
                if event_id not in by_id:
                    raise NotStored(f"the job has no callback {event_id[:160]!r}", param="events")
            chosen = [by_id[event_id] for event_id in wanted]
        if job.spec.delivery.endpoint:
            await self._registry.enable(job.spec.delivery.endpoint)
        replayed = [event.id for event in chosen if await self._events.replay(event)]
        if job.callbacks_stopped:
            await self._table.set(job.id, callbacks_stopped="")
            await self._table.deliver(job.spec)
        return json_answer(Replayed(job_id=job.id, replayed=replayed).model_dump(), status=202)


async def _options(request: Request) -> dict[str, Any]:
    """The body; it may be absent."""
    return await optional_body(request, limit_bytes=_BODY_BYTES, most_inputs=_MOST_CALLBACKS)


def _callback(event: Event) -> CallbackObject:
    target = Target.parse(event.target)
    return CallbackObject(
        id=event.id,
        type=str(event.type),
        segment=None if event.segment == WHOLE_JOB else event.segment,
        target={"webhook_endpoint" if target.kind is TargetKind.WEBHOOK else "sink": target.name},
        state=event.state,
        attempts=event.attempts,
        created_at=event.created_at,
        next_attempt_at=event.due_at,
        log=[attempt.model_dump(exclude_none=True) for attempt in event.log],
    )
