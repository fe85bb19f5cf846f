"""`GET /v1/usage`: what a tenant has used, by day and model."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api import wire
from api.access.caller import caller_of
from api.access.usage import Usage
from api.bulk.answers import add_route, json_answer
from shared.access import RouteGroup
from shared.errors import Conflict

USAGE_PATH = "/v1/usage"


class UsageQuery(BaseModel):
    """Query of `GET /v1/usage`."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(30, ge=1, le=366, description="How many days, today included, by UTC.")
    tenant: str | None = Field(None, max_length=64, description="Another tenant, for keys of the group `admin`.")


class UsageTotal(BaseModel):
    """What was used together."""

    requests: int = Field(description="Answered requests, and answered lines of batches.")
    items: int = Field(description="Texts and documents, those of jobs too.")
    tokens: int = Field(description="What the models read.")


class UsageEntry(UsageTotal):
    """What was used of a model on a day."""

    day: date
    model: str


class UsageReport(BaseModel):
    """Response of `GET /v1/usage`; days and models without any use are left out."""

    object: Literal["list"] = "list"
    tenant: str
    data: list[UsageEntry] = Field(description="The newest day first.")
    total: UsageTotal


def add_usage_route(app: FastAPI, usage: Usage) -> None:
    """Add the route."""

    async def show(request: Request) -> Response:
        query = wire.validated(UsageQuery, dict(request.query_params))
        caller = caller_of(request)
        if query.tenant not in (None, caller.tenant):
            caller.require(RouteGroup.ADMIN)
        tenant = query.tenant or caller.tenant
        if tenant is None:
            raise Conflict("usage is counted by tenant, and there are none: set MILLRACE_API_KEY or MILLRACE_KEYS_FILE")
        await usage.flush()
        today = datetime.now(UTC).date()
        used = await usage.of(tenant, (today - timedelta(days=ago) for ago in range(query.days)))
        entries = [
            UsageEntry(day=one.day, model=one.model, requests=one.requests, items=one.items, tokens=one.tokens)
            for one in used
        ]
        total = UsageTotal(
            requests=sum(entry.requests for entry in entries),
            items=sum(entry.items for entry in entries),
            tokens=sum(entry.tokens for entry in entries),
        )
        return json_answer(UsageReport(tenant=tenant, data=entries, total=total).model_dump(mode="json"))

    add_route(
        app,
        "GET",
        [USAGE_PATH],
        show,
        summary="What a tenant has used, by day and model",
        tag="operations",
        query=UsageQuery,
        shown=UsageReport,
    )
