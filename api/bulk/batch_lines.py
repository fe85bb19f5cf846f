"""Lines of a batch: what an input line asks for, and how its answer or its error is written down.

A line that failed with an HTTP status has a response with that status and no error; only one that was never run has an
error and no response. That is how OpenAI's own error files are (openai-openapi #302).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import orjson

NeverRun = Literal["batch_expired", "batch_cancelled", "batch_failed"]

#: Why lines were never run, and what their owner reads.
NEVER_RUN: dict[NeverRun, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "batch_failed": "This request was not executed because the batch failed; its `errors` say why.",
}


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a batch."""

    #: The caller's own name of it.
    custom_id: str
    body: dict[str, Any]


def parse(line: bytes, request_params: Mapping[str, Any]) -> BatchLine:
    """What a validated line asks for.

    Args:
        line: As it lies in the store.
        request_params: Fields of the batch that stand where a body has none of its own.
    """
    data = orjson.loads(line)
    return BatchLine(data["custom_id"], {**request_params, **data["body"]})


def render(custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """The line of an answer or, with a status of 400 and more, of an error.

    Args:
        custom_id: As the request has it.
        status: As the route would have answered.
        request_id: As it stands in logs.
        body: The answer's JSON.
    """
    response = {"status_code": status, "request_id": request_id, "body": orjson.Fragment(body)}
    return _line(f"batch_req_{request_id}", custom_id, response, None)


def render_never_run(lines: bytes, code: NeverRun) -> Iterator[bytes]:
    """The error lines of a segment whose requests were never run.

    Args:
        lines: Its input, each line ended by a newline.
        code: Why.
    """
    error = {"code": code, "message": NEVER_RUN[code]}
    for line in lines.split(b"\n")[:-1]:
        yield _line(f"batch_req_{uuid4().hex}", orjson.loads(line)["custom_id"], None, error)


def _line(line_id: str, custom_id: str, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> bytes:
    line = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
