"""Running one segment: its input lines to results, whatever the workers and the network do meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from api.access.caller import Caller
from api.access.register import KeyRegister
from api.bulk import batch_lines, documents
from api.bulk.embedding import Embedding
from api.catalog import Catalog
from api.dialect import Context, Dialect, Route
from api.endpoint import Endpoint
from shared import deadline as deadlines
from shared.bulk.jobs import JobSpec, Kind
from shared.bulk.results import SegmentResults
from shared.bulk.table import Segment
from shared.errors import Forbidden, MillraceError, ModelNotFound, NotStored, WrongTask
from shared.logging import get_logger
from shared.queues import Lane

log = get_logger("millrace.jobs")

AnswerT = TypeVar("AnswerT")

#: Deadline of a segment's requests in seconds. After it they are sent again: it only has to be later than any queue.
REQUEST_TIMEOUT_S = 600.0
#: Pauses before what could not be answered now is sent again, in seconds; the last one repeats.
_PAUSES_S = (0.2, 1.0, 3.0, 10.0)


class JobCannotRun(Exception):
    """Nothing more of the job can be run, whatever its documents say."""

    def __init__(self, error: MillraceError) -> None:
        self.error = error
        super().__init__(error.message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a segment came to, for the store and the table."""

    results: bytes
    #: Error lines of a batch; empty where there are none.
    errors: bytes
    completed: int
    failed: int
    tokens: int


class SegmentRuns:
    """Has segments run by the model workers."""

    def __init__(
        self,
        embedding: Embedding,
        endpoint: Endpoint,
        catalog: Catalog,
        contenders: Mapping[str, Sequence[tuple[Dialect, Route]]],
        register: KeyRegister,
    ) -> None:
        self._register = register
        self._embedding = embedding
        self._endpoint = endpoint
        self._catalog = catalog
        self._contenders = contenders

    async def run(self, spec: JobSpec, segment: Segment, data: bytes) -> Outcome:
        """Run the lines of a segment; waits for as long as it takes.

        Args:
            spec: Of its job.
            segment: Which one.
            data: Its lines, each ended by a newline.

        Raises:
            JobCannotRun: No document of the job can be run, for example because its model is no longer served.
            NotStored: Some of the lines are not there any more.
        """
        lines = data.split(b"\n")[:-1]
        if len(lines) != len(segment):  # as a disk may leave a file that it had not written when the power failed
            which = f"documents {segment.first} to {segment.end - 1}"
            raise NotStored(f"{which} are damaged in the store: of {len(segment)} it has {len(lines)}")
        try:
            caller = self._register.owner(spec.tenant, spec.scope)
            visible = self._catalog.within(caller.scope.models)
            if spec.model is not None:
                visible.refuse_foreign(spec.model)
        except Forbidden as err:
            raise JobCannotRun(err) from err
        if spec.kind is Kind.BATCH:
            return await self._batch(spec, lines, caller, visible)
        return await self._ingest(spec, segment, lines)

    async def _ingest(self, spec: JobSpec, segment: Segment, lines: Sequence[bytes]) -> Outcome:
        parsed = [documents.parse(line) for line in lines]

        async def embed() -> SegmentResults:
            return await self._embedding.run(
                parsed,
                first=segment.first,
                model=spec.model or "",
                options=spec.options,
                request_id=f"{spec.id}-{segment.number}",
                timeout_s=REQUEST_TIMEOUT_S,
                tenant=spec.tenant,
            )

        results = await _until_answered(embed, spec.id)
        for error in results.errors.values():
            if isinstance(error, (ModelNotFound, WrongTask)):
                raise JobCannotRun(error)
        failed = len(results.errors)
        return Outcome(results.pack(), b"", len(parsed) - failed, failed, results.tokens)

    async def _batch(self, spec: JobSpec, lines: Sequence[bytes], caller: Caller, catalog: Catalog) -> Outcome:
        answered = await asyncio.gather(*(self._line(spec, line, caller, catalog) for line in lines))
        results = [line for line, is_error, _ in answered if not is_error]
        errors = [line for line, is_error, _ in answered if is_error]
        tokens = sum(tokens for *_, tokens in answered)
        return Outcome(b"".join(results), b"".join(errors), len(results), len(errors), tokens)

    async def _line(self, spec: JobSpec, line: bytes, caller: Caller, catalog: Catalog) -> tuple[bytes, bool, int]:
        """The output line for an input line, whether it is an error, and its tokens."""
        request = batch_lines.parse(line, spec.request_params)
        contenders = self._contenders[spec.endpoint or ""]
        request_id = uuid4().hex

        async def answer() -> tuple[int, bytes, int]:
            deadline = deadlines.after(REQUEST_TIMEOUT_S)
            context = Context(request_id, deadline, catalog, caller, return_documents=self._endpoint.returns_documents)
            return await self._endpoint.answer(contenders, request.body, context, Lane.BULK)

        status, body, tokens = await _until_answered(answer, spec.id)
        return batch_lines.render(request, status, request_id, body), status >= 400, tokens


async def _until_answered(ask: Callable[[], Awaitable[AnswerT]], job_id: str) -> AnswerT:
    """Ask until the answer is not one that says: later."""
    attempt = 0
    while True:
        try:
            return await ask()
        except MillraceError as error:
            if not error.retryable:
                raise
            pause_s = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            attempt += 1
            log.warning("segment_delayed", job=job_id, reason=error.message, attempt=attempt, pause_s=pause_s)
            await asyncio.sleep(pause_s)
