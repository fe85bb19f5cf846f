"""Lines of a batch: what an input line asks for, and how its answer or its error is written down.

A line that failed with an HTTP status has a response with that status and no error; only one that was never run has an
error and no response. That is how OpenAI's own error files are (openai-openapi #302).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import orjson

#: Least status of an error.
_LEAST_ERROR = 400

NeverRun = Literal["batch_expired", "batch_cancelled", "batch_failed"]

#: Why lines were never run, and what their owner reads.
NEVER_RUN: dict[NeverRun, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "batch_failed": "This request was not executed because the batch failed; its `errors` say why.",
}


#: Field of a stored line that holds its number in the caller's file.
_LINE = "$line"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a batch."""

    #: The caller's own name of it.
    custom_id: str
    body: dict[str, Any]
    #: Where it stands in the caller's file, from 1.
    line: int


def numbered(line: bytes, number: int) -> bytes:
    """A validated line as it lies in the store: it knows its number, and ends with a newline."""
    return b'%b,"%b":%d}\n' % (line.removesuffix(b"}"), _LINE.encode(), number)


def parse(line: bytes, request_params: Mapping[str, Any]) -> BatchLine:
    """What a validated line asks for.

    Args:
        line: As it lies in the store.
        request_params: Fields of the batch that stand where a body has none of its own.
    """
    data = orjson.loads(line)
    return BatchLine(data["custom_id"], {**request_params, **data["body"]}, data[_LINE])


def render(request: BatchLine, status: int, request_id: str, body: bytes) -> bytes:
    """The line of an answer or, with a status of 400 and more, of an error.

    Args:
        request: Whose answer it is.
        status: As the route would have answered.
        request_id: As it stands in logs.
        body: The answer's JSON.
    """
    response = {"status_code": status, "request_id": request_id, "body": orjson.Fragment(body)}
    number = request.line if status >= _LEAST_ERROR else None
    return _line(f"batch_req_{request_id}", request.custom_id, response, None, number)


def render_never_run(lines: bytes, code: NeverRun) -> Iterator[bytes]:
    """The error lines of a segment whose requests were never run.

    Args:
        lines: Its input, each line ended by a newline.
        code: Why.
    """
    error = {"code": code, "message": NEVER_RUN[code]}
    for line in lines.split(b"\n")[:-1]:
        request = parse(line, {})
        yield _line(f"batch_req_{uuid4().hex}", request.custom_id, None, error, request.line)


def _line(
    line_id: str,
    custom_id: str,
    response: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None,
    number: int | None,
) -> bytes:
    line: dict[str, Any] = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
    if number is not None:
        # Not OpenAI's: where to look in one's own file.
        line["line"] = number
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
