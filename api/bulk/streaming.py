"""Ingest without a job: vectors flow back on the connection on which the documents come, in their order.

Documents are gathered to groups of about one batch, a bounded number of which is under way. Who does not read results is
not read from either, nor for a while is who has used up the tokens of an interval.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import wire
from api.access.limits import Charge
from api.bulk import documents
from api.bulk.documents import Document
from api.bulk.embedding import Embedding, all_failed
from api.bulk.uploads import Upload, with_pauses
from api.departure import refused_when_leaving
from api.dispatch import Published
from api.fleet import DEFAULT_BATCH_TOKENS
from api.settings import ApiSettings
from shared.bulk.jobs import EmbedOptions, VectorEncoding
from shared.bulk.results import SegmentResults
from shared.errors import MillraceError, RateLimited, Unavailable
from shared.jobs import estimated_tokens
from shared.logging import get_logger
from shared.model_card import ModelCard

log = get_logger("millrace.bulk")

ValueT = TypeVar("ValueT")

#: Groups that are under way for one connection: as many tasks as a worker is given, and as many waiting.
_GROUPS = 8
#: Most documents of a group, however short they are.
_GROUP_DOCUMENTS = 512
#: Silence of the sender after which a group leaves as it is, in seconds.
_PAUSE_S = 0.05
#: Silence of our own after which an empty line is sent, in seconds.
_HEARTBEAT_S = 10.0
#: Deadline of a group's requests, and pauses before what could not be answered in time is sent again, in seconds.
_TIMEOUT_S = 120.0
_PAUSES_S = (0.2, 1.0, 3.0, 10.0)
#: The longest that documents wait for tokens of their tenant's limit before the answer ends with an error, in seconds.
_TOKENS_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is made of the documents."""

    #: Own name of the model.
    model: str
    #: Its card, None while no worker has run it.
    card: ModelCard | None
    options: EmbedOptions
    encoding: VectorEncoding
    request_id: str
    #: Who asks; None where no keys are asked for.
    tenant: str | None


@dataclass(slots=True)
class _Group:
    """Documents that are run together."""

    #: Index of the first one.
    first: int
    documents: list[Document] = field(default_factory=list)
    tokens: int = 0
    #: What it costs its tenant; None where nothing is counted.
    charge: Charge | None = None

    def next(self) -> "_Group":
        """The one behind it, which is empty."""
        return _Group(self.first + len(self.documents))


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a group."""

    lines: bytes
    documents: int
    failed: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _End:
    """No more documents come."""

    #: What is wrong with the body, so that it was not read to its end.
    error: MillraceError | None = None


class StreamedResults(Response):
    """The answer: it reads the request's body while it is sent."""

    media_type = "application/x-ndjson"

    def __init__(
        self, upload: Upload, wish: Wish, embedding: Embedding, settings: ApiSettings, charge: Charge | None
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        # There is a body, of which the length is not known.
        del self.headers["content-length"]
        self._upload = upload
        self._wish = wish
        self._embedding = embedding
        self._settings = settings
        self._charge = charge
        self._budget = wish.card.max_batch_tokens if wish.card else DEFAULT_BATCH_TOKENS
        self._under_way: asyncio.Queue[asyncio.Task[_Done] | _End] = asyncio.Queue()
        self._slots = asyncio.Semaphore(_GROUPS)
        #: Groups that have a slot.
        self._groups = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Answer; ends early when the client leaves, or the gateway does."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        reading = self._started(self._read())
        writing = self._started(self._write(send))
        try:
            with refused_when_leaving():
                await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
            elif (error := reading.exception()) is not None and not isinstance(error, ClientDisconnect):
                raise error
        except Unavailable as error:
            await self._stop()
            await send({"type": "http.response.body", "body": _error_line({}, error), "more_body": False})
        finally:
            await self._stop()

    async def _stop(self) -> None:
        """What is still waiting is not sent to the workers any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _started(self, work: Awaitable[ValueT]) -> asyncio.Task[ValueT]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        return task

    async def _read(self) -> None:
        """Read documents until the client leaves: that there are no more is not the end."""
        self._under_way.put_nowait(await self._read_documents())
        await self._upload.sender.left()

    async def _read_documents(self) -> _End:
        try:
            async with aclosing(self._gathered()) as groups:
                async for group in groups:
                    await self._submit(group)
        except MillraceError as error:
            return _End(error)
        return _End()

    async def _gathered(self) -> AsyncGenerator[_Group, None]:
        """Groups of what is sent, as soon as they are full or the sender pauses; of a broken body all that it had."""
        group = _Group(0)
        try:
            async for lines in with_pauses(self._upload.batches(self._settings.job_document_bytes), _PAUSE_S):
                for line in lines:
                    document = documents.parse(line)
                    group.documents.append(document)
                    group.tokens += estimated_tokens(len(document.text), 1)
                    if group.tokens >= self._budget or len(group.documents) >= _GROUP_DOCUMENTS:
                        yield group
                        group = group.next()
                # When nothing is under way there is nothing to wait for.
                if group.documents and (not lines or self._groups == 0):
                    yield group
                    group = group.next()
        except MillraceError:
            if group.documents:
                yield group
            raise
        if group.documents:
            yield group

    async def _submit(self, group: _Group) -> None:
        """Have a group run as soon as there are a slot and its tenant's tokens for it."""
        await self._slots.acquire()
        if self._charge is not None:
            group.charge = await self._paid(self._charge, group.tokens)
        self._groups += 1
        self._under_way.put_nowait(self._started(self._run(group)))

    async def _paid(self, charge: Charge, tokens: int) -> Charge:
        """Take a group's tokens of its tenant's limit, as soon as they are there.

        Raises:
            RateLimited: That would take too long.
        """
        waited_until = time.monotonic() + _TOKENS_WAIT_S
        group_charge = Charge(charge.caller, charge.limits)
        while True:
            try:
                await group_charge.take_tokens(tokens)
            except RateLimited as error:
                pause_s = error.retry_after_s or 0.0
                if time.monotonic() + pause_s > waited_until:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return group_charge

    async def _run(self, group: _Group) -> _Done:
        published = Published()
        real: int | None = None
        try:
            results = await self._results(group, published)
            real = results.tokens or None
        finally:
            if group.charge is not None:
                group.charge.settle(real, published.tokens)
        lines = b"".join(wire.dumps(entry) + b"\n" for entry in results.entries(self._wish.encoding))
        return _Done(lines, len(results), len(results.errors), results.tokens)

    async def _results(self, group: _Group, published: Published) -> SegmentResults:
        """What became of documents; what cannot be had after some attempts is their error."""
        wish = self._wish
        pauses_s = iter(_PAUSES_S)
        while True:
            try:
                return await self._embedding.run(
                    group.documents,
                    first=group.first,
                    model=wish.model,
                    options=wish.options,
                    request_id=wish.request_id,
                    timeout_s=_TIMEOUT_S,
                    tenant=wish.tenant,
                    published=published,
                )
            except MillraceError as error:
                pause_s = next(pauses_s, None)
                if pause_s is None:
                    return all_failed(group.documents, error, first=group.first, options=wish.options)
                log.warning("group_delayed", model=wish.model, reason=error.message, pause_s=pause_s)
                await asyncio.sleep(pause_s)

    async def _write(self, send: Send) -> None:
        async def put(data: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async def patiently(awaitable: Awaitable[ValueT]) -> ValueT:
            """The value; while there is none, signs of life."""
            task = self._started(awaitable)
            while not task.done():
                await asyncio.wait({task}, timeout=_HEARTBEAT_S)
                if not task.done():
                    await put(b"\n")
            self._tasks.discard(task)
            return task.result()

        done, failed, tokens = 0, 0, 0
        while not isinstance(group := await patiently(self._under_way.get()), _End):
            result = await patiently(group)
            await put(result.lines)
            self._slots.release()
            self._groups -= 1
            done, failed, tokens = done + result.documents, failed + result.failed, tokens + result.tokens
        found = {"documents": done, "failed": failed, "tokens": tokens}
        if group.error is not None:
            await put(_error_line(found, group.error), more=False)
        else:
            await put(wire.dumps({"object": "summary", **found}) + b"\n", more=False)


def _error_line(found: Mapping[str, Any], error: MillraceError) -> bytes:
    """The last line where there can be no summary, which says that all is there."""
    return wire.dumps({"object": "error", **found, "error": {"code": error.code, "message": error.message}}) + b"\n"
