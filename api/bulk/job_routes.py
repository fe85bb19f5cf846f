"""Routes of ingest and its jobs: documents in, progress and results out."""

import time
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import schemas, wire
from api.access.caller import caller_of
from api.access.limits import Charge
from api.bodies import read_json_object
from api.bulk import ingest_options, job_events
from api.bulk.answers import Respond, add_route, json_answer
from api.bulk.embedding import Embedding
from api.bulk.files import FileTable
from api.bulk.finishing import Finishing
from api.bulk.idempotency import HEADER, REPLAYED_HEADER, Idempotency, fingerprint_of
from api.bulk.ingest_options import IngestOptions
from api.bulk.job_creation import SECRET_HEADER, JobCreation
from api.bulk.job_intake import Intake
from api.bulk.job_object import JobDeleted, JobList, JobObject, available, job_object
from api.bulk.job_queries import DocumentsFields, IngestFields, ListQuery, ResultsQuery
from api.bulk.jobs_off import jobs_off
from api.bulk.pages import page_of
from api.bulk.paths import INGEST_PATH
from api.bulk.result_stream import ResultStream, Wanted
from api.bulk.sender import Sender
from api.bulk.streaming import StreamedResults, Wish
from api.bulk.uploads import open_upload
from api.catalog import Catalog
from api.error_bodies import UploadError
from api.settings import ApiSettings
from shared import keys
from shared.access import RouteGroup
from shared.bulk.jobs import Job, Kind, State
from shared.bulk.sinks import configured_sinks
from shared.bulk.store import Store
from shared.bulk.table import JobTable
from shared.bulk.webhooks import WebhookRegistry
from shared.errors import Conflict, InvalidRequest
from shared.logging import get_logger

log = get_logger("millrace.bulk")

JOBS_PATH = "/v1/jobs"
_TAG = "ingest"
_NDJSON = "application/x-ndjson"
#: Largest body that is options alone, in bytes.
_OPTIONS_BYTES = 256 * 1024
#: States that a job can be stopped in.
_STOPPABLE = (State.VALIDATING, State.RECEIVING, State.IN_PROGRESS)


#: Schemas of answers in pieces.
_LINES = {"type": "string"}
_BYTES = {"type": "string", "format": "binary"}
#: Headers of an answer that tells of a job which was made.
_OF_MAKING = ("location", SECRET_HEADER, REPLAYED_HEADER)
_TWO_DOCUMENTS = (
    '{"id": "a", "text": "How fast is a mill race?"}\n'
    '{"id": "b", "text": "It drives the wheel.", "metadata": {"page": 7}}\n'
)


class _UploadErrors(wire.NestedErrors):
    error_body = UploadError


class JobRoutes:
    """Answers them."""

    def __init__(
        self,
        redis: Redis,
        table: JobTable,
        store: Store,
        catalog: Catalog,
        embedding: Embedding,
        settings: ApiSettings,
    ) -> None:
        self._table = table
        self._catalog = catalog
        self._embedding = embedding
        self._settings = settings
        self._creation = JobCreation(
            redis,
            table,
            WebhookRegistry(redis, settings.allowed_webhook_hosts()),
            configured_sinks(settings.sinks_file),
            settings,
        )
        self._idempotency = Idempotency(redis)
        self._intake = Intake(table, store, settings)
        self._results = ResultStream(table, store)
        self._finishing = Finishing(table, FileTable(redis), store)

    def add_to(self, app: FastAPI) -> None:
        """Add the routes; without jobs, that which can do without a runner too."""
        each = f"{JOBS_PATH}/{{job_id}}"
        options = {"application/json": schemas.standalone(IngestOptions)}

        def add(method: str, path: str, respond: Respond, summary: str, **documented: Any) -> None:
            add_route(app, method, [path], respond, summary=summary, tag=_TAG, **documented)

        add(
            *("POST", INGEST_PATH, self.ingest, "Embed documents"),
            query=IngestFields,
            body=_documents(IngestFields),
            shown=JobObject,
            status=202,
            streamed={_NDJSON: _LINES},
            headers=_OF_MAKING,
        )
        if not self._settings.jobs:
            return
        add(
            "POST",
            JOBS_PATH,
            self.create,
            "Create a job",
            body=options,
            shown=JobObject,
            status=201,
            headers=_OF_MAKING,
        )
        add("GET", JOBS_PATH, self.list, "List jobs", query=ListQuery, shown=JobList)
        add("GET", each, self.show, "Show a job", shown=JobObject)
        add("DELETE", each, self.delete, "Cancel a job, or delete one that has ended", shown=JobObject | JobDeleted)
        add(
            *("POST", f"{each}/documents", self.append, "Add documents to a job"),
            query=DocumentsFields,
            body=_documents(DocumentsFields),
            shown=JobObject,
            status=202,
            errors=_UploadErrors(),
        )
        add("POST", f"{each}/cancel", self.cancel, "Cancel a job", shown=JobObject)
        add("POST", f"{each}/resume", self.resume, "Resume a job that has ended early", shown=JobObject)
        add(
            *("GET", f"{each}/events", self.events, "Follow a job's progress"),
            streamed={"text/event-stream": _LINES},
            empty="The job has ended, and the client has seen how: there is nothing more to come for.",
        )
        results = {_NDJSON: _LINES, "application/msgpack": _BYTES}
        add(
            *("GET", f"{each}/results", self.results, "Read a job's results"),
            query=ResultsQuery,
            streamed=results,
            headers=["x-next-offset"],
        )

    async def ingest(self, request: Request) -> Response:
        """Take documents: as a job, or with their vectors on the same connection."""
        upload = await open_upload(request.headers, self._sender(request))
        given = {**_query(request), **upload.fields}
        more = wire.validated(DocumentsFields, {"more": given.pop("more", False)}).more
        options = ingest_options.read_options(given, is_text=True)
        model = self._model(request, options)
        if _NDJSON in request.headers.get("accept", ""):
            ingest_options.refuse_options_of_jobs(given)
            if more or options.encoding == "binary":
                raise InvalidRequest("results on the same connection are NDJSON, and end with the body")
            card, wanted = self._catalog.card(model), ingest_options.embed_options(options)
            wish = Wish(model, card, wanted, options.encoding, request.state.request_id, caller_of(request).tenant)
            charge: Charge | None = request.scope["state"].get("charge")
            if charge is not None:
                # Who has used all up is refused with a status of its own, while there is one to give.
                await charge.take_tokens(1)
                charge.correct_tokens(0)
            return StreamedResults(upload, wish, self._embedding, self._settings, charge)
        if not self._settings.jobs:
            raise jobs_off()
        payload = [options.model_dump(mode="json"), more]
        async with self._idempotency.attempt(request, INGEST_PATH) as attempt:
            if attempt.is_repetition:
                async for _ in upload.batches(self._settings.job_document_bytes):
                    pass  # only to know whether they are the same documents
                return await self._still_there(attempt.replay(fingerprint_of([*payload, upload.digest])))
            job, secret = await self._creation.job(request, options, model)
            # With a key, what was begun and broken off is continued: documents that the job has are compared and skipped.
            try:
                job = await self._intake.receive(job, upload, offset=0, more=more, is_repetition=True)
            except InvalidRequest as err:
                await self._intake.fail(job.id, err)
                raise type(err)(f"{err.message}; the job is {job.id}", param=err.param) from err
            answer = await self._made(job, secret, status=202)
            return await attempt.keep(fingerprint_of([*payload, upload.digest]), answer)

    async def create(self, request: Request) -> Response:
        """Create a job that has no documents yet."""
        headers = dict(request.scope["headers"])
        given = await read_json_object(request.stream(), headers, limit_bytes=_OPTIONS_BYTES, most_inputs=100)
        options = ingest_options.read_options(given, is_text=False)
        model = self._model(request, options)

        async def respond() -> Response:
            job, secret = await self._creation.job(request, options, model)
            return await self._made(job, secret, status=201)

        return await self._still_there(await self._idempotency.once(request, JOBS_PATH, given, respond))

    async def append(self, request: Request) -> Response:
        """Add documents."""
        job = await self._get(request)
        upload = await open_upload(request.headers, self._sender(request))
        query = wire.validated(DocumentsFields, {**request.query_params, **upload.fields})
        try:
            job = await self._intake.receive(job, upload, offset=query.offset, more=query.more)
        except Conflict as err:
            return await self._conflict(job, err)
        return await self._shown(job, status=202)

    async def list(self, request: Request) -> Response:
        """Some jobs, the newest first."""
        query = wire.validated(ListQuery, dict(request.query_params))
        index = keys.owned(keys.JOBS, caller_of(request).tenant)
        found = await self._table.listed(index, after=query.after, limit=query.limit + 1)
        jobs = [await job_object(job, self._table, self._settings.public_url) for job in found]
        return json_answer(page_of(JobList, jobs, query.limit))

    async def show(self, request: Request) -> Response:
        """One job."""
        return await self._shown(await self._get(request))

    async def cancel(self, request: Request) -> Response:
        """Stop a job; one that has ended stays as it is."""
        job = await self._get(request)
        if await self._table.enter(job.id, State.CANCELLING, since=_STOPPABLE):
            log.info("job_cancelling", job=job.id)
        return await self._shown(await self._table.get(job.id))

    async def delete(self, request: Request) -> Response:
        """Stop a job that runs; delete one that has ended, with its files."""
        job = await self._get(request)
        if not job.state.is_final:
            return await self.cancel(request)
        await self._finishing.remove(job)
        return json_answer({"id": job.id, "object": "job", "deleted": True})

    async def resume(self, request: Request) -> Response:
        """Go on with a job that has ended early."""
        job = await self._get(request)
        if job.spec.kind is not Kind.INGEST:
            raise Conflict(f"{job.id} is a batch, which is not resumed; make another")
        spec = job.spec.model_copy(update={"expires_at": time.time() + self._settings.job_timeout_s})
        state = State.IN_PROGRESS if job.input_complete else State.RECEIVING
        moved = await self._table.enter(
            job.id,
            state,
            since=[State.FAILED, State.CANCELLED, State.EXPIRED],
            spec=spec.model_dump_json(),
            failing=False,
            errors=[],
            # What it did before says nothing of how fast it is now.
            **{"rate": 0, "rate_sum": 0, "rate_weight": 0, "rated_at": time.time()},
        )
        if not moved:
            raise Conflict(f"the job is {job.state}; one that has failed, was cancelled or has expired can be resumed")
        await self._table.activate(spec)
        log.info("job_resumed", job=job.id)
        return await self._shown(await self._table.get(job.id))

    async def events(self, request: Request) -> Response:
        """Its progress."""
        job = await self._get(request)
        last_id = request.headers.get("last-event-id")
        if job.state.is_final and last_id is not None and last_id == await self._state_of(job):
            return Response(status_code=204)  # which tells an EventSource not to come again
        stream = job_events.events(self._table, job.id, self._settings.public_url, last_id=last_id)
        return StreamingResponse(stream, media_type="text/event-stream", headers=job_events.headers())

    async def results(self, request: Request) -> Response:
        """Its results, as far as they are there."""
        job = await self._get(request)
        if job.spec.kind is not Kind.INGEST:
            raise Conflict(f"{job.id} is a batch: its results are in its output file")
        query = wire.validated(ResultsQuery, dict(request.query_params))
        end = 2**63 if query.limit is None else query.offset + query.limit
        compress = query.encoding != "binary" and "gzip" in request.headers.get("accept-encoding", "")
        wanted = Wanted(query.offset, end, query.encoding, query.follow, compress)
        headers = {"vary": "accept-encoding", "cache-control": "no-store", "x-accel-buffering": "no"}
        if job.state.is_final or not query.follow:
            wanted = wanted.within(job, await available(job, self._table))
            headers["x-next-offset"] = str(min(wanted.end, job.received))
        if compress:
            headers["content-encoding"] = "gzip"
        media_type = "application/msgpack" if query.encoding == "binary" else _NDJSON
        return StreamingResponse(self._results.pieces(job.id, wanted), media_type=media_type, headers=headers)

    async def _state_of(self, job: Job) -> str:
        """What the event that shows a job as it stands is called."""
        shown = await job_object(job, self._table, self._settings.public_url)
        return job_events.event_id(wire.dumps(shown.model_dump(mode="json")))

    async def _still_there(self, answer: Response) -> Response:
        """The answer of an earlier sending, if what it made has not been deleted since."""
        if REPLAYED_HEADER in answer.headers:
            job_id = orjson.loads(answer.body)["id"]
            if await self._table.find(job_id) is None:
                raise Conflict(f"{job_id}, which this {HEADER} made, has been deleted; send another key")
        return answer

    def _sender(self, request: Request) -> Sender:
        return Sender(request.receive, self._settings.job_upload_idle_s)

    async def _get(self, request: Request) -> Job:
        return await self._table.get(request.path_params["job_id"], tenant=caller_of(request).tenant)

    def _model(self, request: Request, options: IngestOptions) -> str:
        """The own name of the model that is meant, if the caller may have it embed."""
        caller = caller_of(request)
        caller.require(RouteGroup.EMBED)
        return ingest_options.resolved_model(options, self._catalog.within(caller.scope.models))

    async def _shown(self, job: Job, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        shown = await job_object(job, self._table, self._settings.public_url)
        return json_answer(shown.model_dump(mode="json"), status=status, headers=headers)

    async def _made(self, job: Job, secret: str | None, *, status: int) -> Response:
        headers = {"location": f"{JOBS_PATH}/{job.id}"}
        if secret is not None:
            headers[SECRET_HEADER] = secret
        return await self._shown(job, status=status, headers=headers)

    async def _conflict(self, job: Job, error: Conflict) -> Response:
        """A refusal that says where the upload goes on."""
        job = await self._table.get(job.id)
        content = wire.nested_error(error)
        content["error"]["received"] = content["received"] = job.received
        return json_answer(content, status=error.status, headers={"x-should-retry": "false"})


def _documents(fields: type[BaseModel]) -> dict[str, Any]:
    """Schemas of a body that brings documents, by media type; a form has the query's fields too, before its file."""
    form = schemas.with_file(schemas.form(fields), "The documents, as NDJSON.")
    return {
        _NDJSON: {"type": "string", "example": _TWO_DOCUMENTS},
        "multipart/form-data": {**form, "example": {"file": _TWO_DOCUMENTS}},
    }


def add_job_routes(
    app: FastAPI,
    *,
    redis: Redis,
    table: JobTable,
    store: Store,
    catalog: Catalog,
    embedding: Embedding,
    settings: ApiSettings,
) -> None:
    """Add ingest and its jobs.

    Args:
        app: The gateway.
        redis: For webhook endpoints and idempotency keys.
        table: Of jobs.
        store: Of their files.
        catalog: Knows the models.
        embedding: For results on the same connection.
        settings: For the limits.
    """
    JobRoutes(redis, table, store, catalog, embedding, settings).add_to(app)


def _query(request: Request) -> dict[str, Any]:
    """The query; what is there several times is a list with commas."""
    query = request.query_params
    return {name: ",".join(query.getlist(name)) for name in query}
