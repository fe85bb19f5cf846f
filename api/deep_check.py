"""`GET /health/deep`: a real forward pass of every model, by way of the queue, as a request would have it."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from api import wire
from api.catalog import Catalog
from api.dispatch import Dispatcher
from api.error_responses import OF_ALL, error_responses
from shared import deadline as deadlines
from shared.errors import MillraceError
from shared.jobs import ClassifyRequest, EmbedRequest, Request, RerankRequest
from shared.model_card import ModelCard
from shared.queues import Lane, Operation

DEEP_PATH = "/health/deep"
#: How long a model has, in seconds.
_TIMEOUT_S = 10.0
_TEXT = "Does it turn?"


class ModelCheck(BaseModel):
    """What became of one model's forward pass."""

    model: str
    ok: bool
    asleep: bool = Field(False, description="It has no worker until work waits for it, and was not woken.")
    ms: float = Field(description="Time through the queue and back, in milliseconds.")
    error: str | None = Field(description="Why it failed.")


class DeepCheck(BaseModel):
    """Response of the deep check; the status is 200 if every model answered, or sleeps, and else 503."""

    ok: bool
    models: list[ModelCheck]


def add_deep_check(app: FastAPI, catalog: Catalog, dispatcher: Dispatcher) -> None:
    """Add the route."""

    async def check() -> Response:
        checks = await asyncio.gather(*(_check(catalog, dispatcher, config.name) for config in catalog.models))
        found = DeepCheck(ok=all(each.ok for each in checks), models=list(checks))
        return JSONResponse(found.model_dump(), status_code=200 if found.ok else 503)

    responses: dict[int | str, dict[str, Any]] = {
        **error_responses([wire.NestedErrors()], OF_ALL),
        200: {"model": DeepCheck, "description": "Every model answered."},
        503: {"model": DeepCheck, "description": "A model did not answer."},
    }
    for path in (DEEP_PATH, f"{DEEP_PATH}/"):
        app.add_api_route(
            path,
            check,
            summary="Does every model answer?",
            tags=["operations"],
            include_in_schema=path == DEEP_PATH,
            response_model=None,
            responses=responses,
        )


async def _check(catalog: Catalog, dispatcher: Dispatcher, model: str) -> ModelCheck:
    started = time.perf_counter()
    error = None
    card = catalog.card(model)
    if model in catalog.sleeping():
        return ModelCheck(model=model, ok=True, asleep=True, ms=0.0, error=None)
    if card is None or not catalog.is_served(model):
        error = "no live worker has run it"
    else:
        try:
            await dispatcher.run(model, Lane.INTERACTIVE, _smallest_request(card))
        except MillraceError as err:
            error = err.message
    ms = round(1000 * (time.perf_counter() - started), 1)
    return ModelCheck(model=model, ok=error is None, ms=ms, error=error)


def _smallest_request(card: ModelCard) -> Request:
    """One short text for what a model is made for."""
    request_id, deadline = f"deep-{uuid4().hex}", deadlines.after(_TIMEOUT_S)
    if Operation.EMBED in card.operations:
        return EmbedRequest(request_id=request_id, deadline=deadline, texts=[_TEXT], kinds=card.kinds[:1])
    if Operation.RERANK in card.operations:
        return RerankRequest(request_id=request_id, deadline=deadline, query=_TEXT, documents=[_TEXT])
    return ClassifyRequest(request_id=request_id, deadline=deadline, texts=[_TEXT])
