"""OpenAI's files: what batches read and what they put out."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api import schemas, wire
from api.access.caller import caller_of
from api.bodies import not_idle
from api.bulk.answers import add_route, json_answer
from api.bulk.file_writer import FileWriter, file_writer
from api.bulk.files import FileTable, content, new_file_id, parts
from api.bulk.idempotency import REPLAYED_HEADER, Idempotency, fingerprint_of
from api.bulk.multipart import Part, read_form
from api.bulk.pages import Page, PageQuery, page_of
from api.bulk.paths import PREFIXES
from api.fields import Integer
from api.settings import ApiSettings
from shared.bulk.jobs import FileRecord
from shared.bulk.store import Store, upload_path
from shared.bulk.table import JobTable
from shared.errors import InvalidRequest

_ROUTE = "/v1/files"
_BYTES = {"application/octet-stream": {"type": "string", "format": "binary"}}
_TAG = "files"
#: Longest value of a form's field; there are none that need more.
_MOST_FIELD_BYTES = 4096
_MOST_FIELDS = 32
_MOST_NAME_CHARACTERS = 255


class FileObject(BaseModel):
    """A file, in OpenAI's words."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    #: There is nothing to wait for.
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(Page[FileObject]):
    """Response of `GET /v1/files`."""


class FileDeleted(BaseModel):
    """Response of `DELETE /v1/files/{id}`."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(BaseModel):
    """When a file goes, in seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: Integer = Field(ge=3_600, le=2_592_000, description="How long it is kept, from an hour to thirty days.")


class _ListQuery(PageQuery):
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


_ONE_REQUEST = (
    '{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "How fast is a mill race?"}}\n'
)


def _object(value: Any) -> Any:
    """An object in a form is JSON, as OpenAPI has it, where its fields have not come one by one."""
    try:
        return orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        return value


class FileForm(BaseModel):
    """Fields of `POST /v1/files`, beside `file`."""

    purpose: Literal["batch"]
    expires_after: Annotated[ExpiresAfter, BeforeValidator(_object)] | None = Field(
        None, description="When it is deleted."
    )


@dataclass(slots=True)
class _Received:
    """What a form has brought."""

    fields: dict[str, str] = field(default_factory=dict)
    #: None while no file has come.
    filename: str | None = None
    digest: Any = field(default_factory=hashlib.sha256)


class FileRoutes:
    """Answers them."""

    def __init__(
        self, files: FileTable, table: JobTable, store: Store, idempotency: Idempotency, settings: ApiSettings
    ) -> None:
        self._files = files
        self._table = table
        self._store = store
        self._idempotency = idempotency
        self._settings = settings

    def add_to(self, app: FastAPI) -> None:
        """Add the routes."""
        paths = [f"{prefix}/files" for prefix in PREFIXES]
        each = [f"{path}/{{file_id}}" for path in paths]
        contents = [f"{path}/content" for path in each]
        form = schemas.with_file(schemas.form(FileForm), "The requests, as JSONL.")
        form["example"] = {"purpose": "batch", "file": _ONE_REQUEST}
        body = {"multipart/form-data": form}
        add_route(
            *(app, "POST", paths, self.upload),
            summary="Upload a file",
            tag=_TAG,
            body=body,
            shown=FileObject,
            headers=[REPLAYED_HEADER],
        )
        add_route(app, "GET", paths, self.list, summary="List files", tag=_TAG, query=_ListQuery, shown=FileList)
        add_route(app, "GET", each, self.show, summary="Show a file", tag=_TAG, shown=FileObject)
        add_route(app, "DELETE", each, self.delete, summary="Delete a file", tag=_TAG, shown=FileDeleted)
        add_route(app, "GET", contents, self.download, summary="Download a file", tag=_TAG, streamed=_BYTES)

    async def upload(self, request: Request) -> Response:
        """Store a file."""
        settings = self._settings
        file_id = new_file_id()
        path = upload_path(file_id)
        async with self._idempotency.attempt(request, _ROUTE) as attempt:
            room = await self._files.room(settings.store_limit_bytes)
            received = _Received()
            async with file_writer(
                self._store,
                path,
                most_bytes=settings.file_limit_bytes,
                room_bytes=room,
                is_kept=not attempt.is_repetition,
            ) as writer:
                await _receive(request, received, writer, settings.job_upload_idle_s)
                form = _form(received)
            payload = [received.fields, received.filename, received.digest.hexdigest()]
            if attempt.is_repetition:
                return attempt.replay(fingerprint_of(payload))
            now = time.time()
            lifetime_s = settings.file_ttl_s if form.expires_after is None else form.expires_after.seconds
            record = FileRecord(
                id=file_id,
                filename=received.filename or "",
                purpose=form.purpose,
                bytes=writer.size,
                created_at=now,
                expires_at=now + lifetime_s,
                path=path,
                tenant=caller_of(request).tenant,
            )
            await self._files.add(record)
            return await attempt.keep(fingerprint_of(payload), json_answer(file_object(record).model_dump()))

    async def list(self, request: Request) -> Response:
        """Some files."""
        query = wire.validated(_ListQuery, dict(request.query_params))
        found = await self._files.listed(
            after=query.after,
            limit=query.limit + 1,
            newest_first=query.order == "desc",
            purpose=query.purpose,
            tenant=caller_of(request).tenant,
        )
        return json_answer(page_of(FileList, [file_object(record) for record in found], query.limit))

    async def show(self, request: Request) -> Response:
        """One file."""
        return json_answer(file_object(await self._get(request)).model_dump())

    async def delete(self, request: Request) -> Response:
        """Remove a file."""
        record = await self._get(request)
        await self._files.remove(record, self._store)
        return json_answer(FileDeleted(id=record.id).model_dump())

    async def download(self, request: Request) -> Response:
        """A file's bytes."""
        record = await self._get(request)
        pieces = await parts(record, self._table)
        blocks = content(pieces, self._store)
        # Bytes that are not there any more are told as an error, while that is possible.
        first = await asyncio.to_thread(next, blocks, b"")
        headers = {
            "content-length": str(sum(piece.size for piece in pieces)),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(PurePosixPath(record.filename).name)}",
        }
        return StreamingResponse(chain([first], blocks), headers=headers, media_type="application/octet-stream")

    async def _get(self, request: Request) -> FileRecord:
        """The file that a path names, if it is the caller's."""
        return await self._files.get(request.path_params["file_id"], tenant=caller_of(request).tenant)


def file_object(record: FileRecord) -> FileObject:
    """A record as OpenAI shows it."""
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=int(record.created_at),
        expires_at=None if record.expires_at is None else int(record.expires_at),
        filename=record.filename,
        purpose=record.purpose,
    )


async def _receive(request: Request, received: _Received, writer: FileWriter, idle_s: float) -> None:
    """Read the form: its file, which may come before or after its fields, into the writer."""
    in_file = False
    name = ""
    fields: dict[str, bytearray] = {}
    async for event in read_form(not_idle(request.stream(), idle_s), request.headers.get("content-type", "")):
        if isinstance(event, Part):
            in_file, name = event.name == "file", event.name
            if in_file:
                if received.filename is not None:
                    raise InvalidRequest("the form has more than one `file`", param="file")
                received.filename = (event.filename or "file")[-_MOST_NAME_CHARACTERS:]
            else:
                fields[name] = bytearray()
                if len(fields) > _MOST_FIELDS:
                    raise InvalidRequest(f"the form has more than {_MOST_FIELDS} fields")
        elif in_file:
            received.digest.update(event)
            await writer.write(event)
        else:
            fields[name] += event
            if len(fields[name]) > _MOST_FIELD_BYTES:
                raise InvalidRequest(f"`{name[:80]}` has more than {_MOST_FIELD_BYTES} bytes", param=name[:80])
    received.fields = {name: value.decode("utf-8", "replace") for name, value in fields.items()}


def _form(received: _Received) -> FileForm:
    """The form's fields, of which `expires_after[seconds]` and its like are one."""
    if received.filename is None:
        raise InvalidRequest("the form has no `file`", param="file")
    return wire.validated(FileForm, _nested(received.fields))


def _nested(fields: Mapping[str, str]) -> dict[str, Any]:
    """Fields with those inside of others in their places, where OpenAI's clients name them `outer[inner]`."""
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        outer, bracket, inner = name.partition("[")
        if bracket and inner.endswith("]"):
            group = nested.get(outer)
            nested[outer] = {**(group if isinstance(group, dict) else {}), inner[:-1]: value}
        else:
            nested[name] = value
    return nested
