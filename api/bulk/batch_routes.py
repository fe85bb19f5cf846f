"""OpenAI's batches: many requests to one path, answered in a file."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

import orjson
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response

from api import schemas, wire
from api.access.caller import Caller, caller_of
from api.bodies import read_json_object
from api.bulk.answers import add_route, json_answer
from api.bulk.batch_body import MOST_INLINE, BatchBody
from api.bulk.batch_object import Batch, BatchList, batch_object
from api.bulk.file_routes import FileRoutes
from api.bulk.files import BATCH, FileTable, new_file_id
from api.bulk.idempotency import REPLAYED_HEADER, Idempotency
from api.bulk.job_creation import SECRET_HEADER
from api.bulk.pages import PageQuery, page_of
from api.bulk.paths import PREFIXES
from api.bulk.receivers import receiver_of
from api.dialect import Dialect, Route
from api.settings import ApiSettings
from shared import keys
from shared.access import RouteGroup, group_of
from shared.bulk.jobs import Delivery, FileRecord, Job, JobSpec, Kind, State, WebhookEndpoint
from shared.bulk.store import Store, upload_path
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import BodyTooLarge, InvalidRequest, NotStored
from shared.logging import get_logger
from shared.queues import Operation

log = get_logger("millrace.batches")

_ROUTE = "/v1/batches"
_TAG = "batches"
#: What needs no model is answered at once, and takes no batch.
_WITHOUT_MODEL = frozenset({Operation.TOKENIZE, Operation.DECODE})


class BatchRoutes:
    """Answers them."""

    def __init__(
        self,
        files: FileTable,
        table: JobTable,
        store: Store,
        idempotency: Idempotency,
        webhooks: WebhookRegistry,
        contenders: Mapping[str, Sequence[tuple[Dialect, Route]]],
        settings: ApiSettings,
    ) -> None:
        self._files = files
        self._table = table
        self._store = store
        self._idempotency = idempotency
        self._webhooks = webhooks
        self._endpoints = batch_endpoints(contenders)
        self._settings = settings

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        paths = [f"{prefix}/batches" for prefix in PREFIXES]
        each = [f"{path}/{{batch_id}}" for path in paths]
        cancels = [f"{path}/cancel" for path in each]
        body = schemas.standalone(BatchBody)
        body["properties"]["endpoint"]["enum"] = sorted(self._endpoints)
        add_route(
            *(app, "POST", paths, self.create),
            summary="Create a batch",
            tag=_TAG,
            body={"application/json": body},
            shown=Batch,
            headers=(SECRET_HEADER, REPLAYED_HEADER),
        )
        add_route(app, "GET", paths, self.list, summary="List batches", tag=_TAG, query=PageQuery, shown=BatchList)
        add_route(app, "GET", each, self.show, summary="Show a batch", tag=_TAG, shown=Batch)
        add_route(app, "POST", cancels, self.cancel, summary="Cancel a batch", tag=_TAG, shown=Batch)

    async def create(self, request: Request) -> Response:
        """Begin a batch."""
        data = await read_json_object(
            request.stream(),
            dict(request.scope["headers"]),
            limit_bytes=self._settings.body_limit_bytes,
            most_inputs=MOST_INLINE,
        )

        async def respond() -> Response:
            body = wire.validated(BatchBody, data, strict=True)
            caller = caller_of(request)
            self._check_endpoint(body.endpoint, caller)
            receiver = None
            if body.webhook is not None:
                receiver = await receiver_of(body.webhook, self._webhooks, caller.tenant)
            job = await self._create(body, receiver, caller)
            headers = {}
            if receiver is not None and body.webhook is not None and receiver.inline and body.webhook.secret is None:
                # It was made here, and is told this once.
                headers[SECRET_HEADER] = receiver.secrets[0][0]
            return json_answer(batch_object(job).model_dump(), headers=headers)

        return await self._idempotency.once(request, _ROUTE, data, respond)

    async def list(self, request: Request) -> Response:
        """Some batches, the newest first."""
        query = wire.validated(PageQuery, dict(request.query_params))
        index = keys.owned(keys.BATCHES, caller_of(request).tenant)
        found = await self._table.listed(index, after=query.after, limit=query.limit + 1)
        return json_answer(page_of(BatchList, [batch_object(job) for job in found], query.limit))

    async def show(self, request: Request) -> Response:
        """One batch."""
        return json_answer(batch_object(await self._get(request)).model_dump())

    async def cancel(self, request: Request) -> Response:
        """Stop a batch; one that has ended stays as it is."""
        job = await self._get(request)
        if await self._table.enter(job.id, State.CANCELLING, since=[State.VALIDATING, State.IN_PROGRESS]):
            log.info("batch_cancelling", job=job.id)
        return json_answer(batch_object(await self._table.get(job.id)).model_dump())

    async def _get(self, request: Request) -> Job:
        job = await self._table.get(request.path_params["batch_id"], tenant=caller_of(request).tenant)
        if job.spec.kind is not Kind.BATCH:
            raise NotStored(f"no batch {job.id!r} is here")
        return job

    def _check_endpoint(self, endpoint: str, caller: Caller) -> None:
        groups = self._endpoints.get(endpoint)
        if groups is None:
            raise InvalidRequest(
                f"`endpoint` {endpoint[:80]!r} takes no batches; /v1/embeddings, /v1/rerank and every other path that runs "
                "a model do",
                param="endpoint",
            )
        if not groups & caller.scope.routes:
            caller.require(min(groups))

    async def _create(self, body: BatchBody, receiver: WebhookEndpoint | None, caller: Caller) -> Job:
        settings = self._settings
        now = time.time()
        kept_s = None if body.output_expires_after is None else float(body.output_expires_after.seconds)
        spec = JobSpec(
            id=f"batch_{secrets.token_hex(12)}",
            kind=Kind.BATCH,
            endpoint=body.endpoint,
            delivery=Delivery(endpoint=None if receiver is None else receiver.id),
            request_params=body.request_params,
            metadata=dict(body.metadata) if body.metadata is not None else None,
            priority=body.priority,
            created_at=now,
            expires_at=now + body.window_s,
            # A batch is still there when its files go.
            results_ttl_s=max(settings.job_results_ttl_s, kept_s or 0),
            output_ttl_s=kept_s,
            input_file_id=await self._input(body, caller.tenant),
            completion_window=body.completion_window,
            **caller.owned(),
        )
        if receiver is not None and receiver.inline:
            await self._webhooks.keep(receiver)
        await self._table.create(spec, State.VALIDATING)
        log.info("batch_created", job=spec.id, endpoint=spec.endpoint, file=spec.input_file_id)
        return await self._table.get(spec.id)

    async def _input(self, body: BatchBody, tenant: str | None) -> str:
        """Id of the batch's input file; requests of the body are made one."""
        if body.input_file_id is not None:
            record = await self._files.get(body.input_file_id, param="input_file_id", tenant=tenant)
            if record.purpose != BATCH:
                raise InvalidRequest(f"the file's purpose is {record.purpose!r}, not {BATCH!r}", param="input_file_id")
            return record.id
        data = b"".join(orjson.dumps(line) + b"\n" for line in body.requests or [])
        settings = self._settings
        if len(data) > settings.file_limit_bytes:
            raise BodyTooLarge(f"`requests` exceed {settings.file_limit_bytes} bytes", param="requests")
        await self._files.room(settings.store_limit_bytes)
        now = time.time()
        file_id = new_file_id()
        record = FileRecord(
            id=file_id,
            filename="requests.jsonl",
            purpose=BATCH,
            bytes=len(data),
            created_at=now,
            expires_at=now + settings.file_ttl_s,
            path=upload_path(file_id),
            tenant=tenant,
        )
        await asyncio.to_thread(self._store.write, upload_path(file_id), data)
        await self._files.add(record)
        return file_id


def batch_endpoints(
    contenders: Mapping[str, Sequence[tuple[Dialect, Route]]],
) -> Mapping[str, frozenset[RouteGroup]]:
    """The paths that take batches: those that need a model, and say all in the body; with their groups."""
    return {
        path: frozenset(group_of(route.operation) for _, route in routes)
        for path, routes in contenders.items()
        if "{" not in path and any(route.operation not in _WITHOUT_MODEL for _, route in routes)
    }


def add_batch_routes(
    app: FastAPI,
    *,
    redis: Redis,
    table: JobTable,
    store: Store,
    contenders: Mapping[str, Sequence[tuple[Dialect, Route]]],
    settings: ApiSettings,
) -> None:
    """Add files and batches.

    Args:
        app: The gateway.
        redis: For files, webhook endpoints and idempotency keys.
        table: Of jobs.
        store: Of their files.
        contenders: The dialects' routes by path (`api.routing.contenders_by_path`).
        settings: For the limits.
    """
    files, idempotency = FileTable(redis), Idempotency(redis)
    webhooks = WebhookRegistry(redis, settings.allowed_webhook_hosts())
    FileRoutes(files, table, store, idempotency, settings).add_to(app)
    BatchRoutes(files, table, store, idempotency, webhooks, contenders, settings).add_to(app)
