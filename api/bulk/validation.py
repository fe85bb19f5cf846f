"""Validating a batch: its uploaded file is checked as a whole, then cut into segments.

The file is read twice, a block at a time: a file with a fault leaves nothing behind, and what has begun to be cut needs no
second check when it goes on after a crash.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import orjson

from api.bulk import batch_lines
from api.bulk.segment_writer import SegmentWriter
from api.nesting import DEEPEST, is_too_deep
from api.settings import ApiSettings
from shared.bulk.jobs import Job, JobError, State
from shared.bulk.store import Store, upload_path
from shared.bulk.table import JobTable
from shared.errors import Conflict, NotStored, StorageFull
from shared.logging import get_logger

log = get_logger("millrace.batches")

#: How many faults of a file are told.
MOST_ERRORS = 100
#: Longest custom_id, in characters.
_MOST_CUSTOM_ID = 512
#: Length of lines that were checked before.
_ANY = 1 << 62
#: How many lines are cut before others have their turn.
_LINES_AT_A_TIME = 64
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def validate(job: Job, table: JobTable, store: Store, settings: ApiSettings) -> None:
    """Check a batch's file; then either let its lines run, or end it with what is wrong with it.

    May be begun again at any time: it goes on behind the lines that are in segments already.

    Args:
        job: In the state `validating`.
        table: Of jobs.
        store: Where the file lies.
        settings: For the limits.

    Raises:
        StorageUnavailable: The store cannot be read or written now.
        Conflict: Somebody else is validating the same job.
    """
    try:
        errors = [] if job.received else await asyncio.to_thread(_check, job, store, settings)
        if not errors:
            await _cut(job, table, store, settings)
    except (NotStored, StorageFull) as err:
        errors = [JobError.of(err)]
    except Conflict:
        if (await table.get(job.id)).state is State.VALIDATING:
            raise
        return  # it was cancelled meanwhile
    if errors:
        await table.enter(job.id, State.FAILED, since=[State.VALIDATING], errors=errors)
        log.info("batch_failed", job=job.id, code=errors[0].code, errors=len(errors))
    else:
        await table.enter(job.id, State.IN_PROGRESS, since=[State.VALIDATING], input_complete=True)


def faults(
    blocks: Iterable[bytes], endpoint: str, *, most_lines: int, most_line_bytes: int = 64 * 1024 * 1024
) -> Iterator[JobError]:
    """What is wrong with a batch's file, line by line.

    Args:
        blocks: The file.
        endpoint: Path that its lines are for.
        most_lines: How many it may have.
        most_line_bytes: Longest line.
    """
    seen: set[str] = set()
    count = 0
    for number, line in _numbered(blocks, most_line_bytes):
        if line is None:
            yield _fault("invalid_json_line", f"the line is longer than {most_line_bytes} bytes", line=number)
            return
        count += 1
        if count > most_lines:
            message = f"the file has more than {most_lines} requests; split it or raise MILLRACE_BATCH_LIMIT_LINES"
            yield _fault("too_many_tasks", message, line=number)
            return
        try:
            data = orjson.loads(line)
        except orjson.JSONDecodeError as err:
            message = f"the line is not valid JSON: {err.msg} at character {err.pos + 1}"
            yield _fault("invalid_json_line", message, line=number)
            continue
        if not isinstance(data, dict):
            yield _fault("invalid_json_line", "the line must be a JSON object", line=number)
            continue
        if is_too_deep(line, data):
            message = f"the line has lists or objects more than {DEEPEST} deep in each other"
            yield _fault("invalid_json_line", message, line=number)
            continue
        yield from _faults_of(data, endpoint, seen, number)
    if not count:
        yield _fault("empty_file", "the file has no requests")


def _check(job: Job, store: Store, settings: ApiSettings) -> list[JobError]:
    found = faults(
        store.blocks(_uploaded(job)),
        job.spec.endpoint or "",
        most_lines=settings.batch_limit_lines,
        most_line_bytes=settings.body_limit_bytes,
    )
    return [error for error, _ in zip(found, range(MOST_ERRORS), strict=False)]


async def _cut(job: Job, table: JobTable, store: Store, settings: ApiSettings) -> None:
    """Write the segments that are not written yet."""
    requests = islice(checked_lines(store.blocks(_uploaded(job))), job.received, None)
    lines = (batch_lines.numbered(line, number) for number, line in requests)
    async with SegmentWriter(job, table, store, settings) as writer:
        while some := await asyncio.to_thread(_some, lines):
            await writer.add(some)


def checked_lines(blocks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file without faults, with their numbers."""
    return ((number, line) for number, line in _numbered(blocks, _ANY) if line is not None)


def _some(lines: Iterator[bytes]) -> list[bytes]:
    return list(islice(lines, _LINES_AT_A_TIME))


def _faults_of(data: dict[str, Any], endpoint: str, seen: set[str], number: int) -> Iterator[JobError]:
    """What is wrong with one line; notes its custom_id."""
    custom_id = data.get("custom_id")
    if custom_id is None:
        yield _missing("custom_id", number)
    elif not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MOST_CUSTOM_ID:
        message = f"`custom_id` must be a text of 1 to {_MOST_CUSTOM_ID} characters"
        yield _fault("invalid_custom_id", message, param="custom_id", line=number)
    elif custom_id in seen:
        message = f"the custom_id {custom_id!r} is another line's already"
        yield _fault("duplicate_custom_id", message, param="custom_id", line=number)
    else:
        seen.add(custom_id)
    # Voyage's lines have a custom_id and a body only.
    if data.keys() & {"method", "url"}:
        yield from _faults_of_target(data, endpoint, number)
    if data.get("body") is None:
        yield _missing("body", number)
    elif not isinstance(data["body"], dict):
        yield _fault("invalid_body", "`body` must be a JSON object", param="body", line=number)


def _faults_of_target(data: dict[str, Any], endpoint: str, number: int) -> Iterator[JobError]:
    method, url = data.get("method"), data.get("url")
    if method is None:
        yield _missing("method", number)
    elif method != "POST":
        yield _fault("invalid_method", f"`method` must be POST, not {_shown(method)}", param="method", line=number)
    if url is None:
        yield _missing("url", number)
    elif url != endpoint:
        message = f"`url` must be the batch's endpoint {endpoint}, not {_shown(url)}"
        yield _fault("invalid_url", message, param="url", line=number)


def _numbered(blocks: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank with their numbers from 1; None for one that is too long, which is the last."""
    number = 0
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            if stripped := _stripped(line, number):
                yield number, stripped if len(line) <= most_bytes else None
        if len(rest) > most_bytes:
            yield number + 1, None
            return
    if stripped := _stripped(rest, number + 1):
        yield number + 1, stripped


def _stripped(line: bytes, number: int) -> bytes:
    return (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()


def _uploaded(job: Job) -> str:
    return upload_path(job.spec.input_file_id or "")


def _missing(param: str, number: int) -> JobError:
    return _fault("missing_required_parameter", f"the line has no `{param}`", param=param, line=number)


def _fault(code: str, message: str, *, param: str | None = None, line: int | None = None) -> JobError:
    return JobError(code=code, message=message, param=param, line=line)


def _shown(value: Any) -> str:
    return repr(value)[:200]
