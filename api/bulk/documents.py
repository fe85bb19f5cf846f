"""Documents of an ingest: what a line of input says, and the request that embeds some of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.bulk.lines import TOO_LONG
from api.nesting import is_too_deep
from shared.bulk.jobs import EmbedOptions
from shared.errors import BodyTooLarge, EmptyInput, InvalidJson, InvalidRequest, MillraceError
from shared.jobs import EmbedRequest
from shared.results import Kind

#: Deepest nesting of metadata: what writes it down again as JSON or msgpack goes less deep than what reads it.
_DEEPEST = 64
#: What some editors begin a file with.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Document:
    """One line of input."""

    #: Its own id, None where it has none (or none that can be one).
    id: str | int | None = None
    text: str = ""
    #: What the caller wants back beside the vectors; None for nothing.
    metadata: Any = None
    #: Why it cannot be embedded; None where it can.
    error: MillraceError | None = None


def parse(line: bytes) -> Document:
    """What a line says. A line that is wrong is a document with an error, and with its id as far as that can be read."""
    try:
        data = orjson.loads(line.removeprefix(_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as err:
        return Document(error=InvalidJson(f"the line is not JSON: {err.msg} at character {err.pos + 1}"))
    if not isinstance(data, dict):
        return Document(error=InvalidRequest('the line must be an object: {"id": ..., "text": ...}'))
    if TOO_LONG in data:
        return Document(error=BodyTooLarge(f"the line of {data[TOO_LONG]} bytes is too long for a document"))
    own_id, metadata = data.get("id"), data.get("metadata")
    # Of Python's numbers a bool is one too.
    if own_id is not None and (isinstance(own_id, bool) or not isinstance(own_id, (str, int))):
        return Document(error=InvalidRequest("`id` must be a text, a whole number or absent", param="id"))
    if is_too_deep(line, metadata, _DEEPEST):
        return Document(own_id, error=InvalidRequest(f"`metadata` is nested deeper than {_DEEPEST}", param="metadata"))
    text = data.get("text")
    if text is None:
        error: MillraceError = InvalidRequest("the document has no `text`", param="text")
    elif not isinstance(text, str):
        error = InvalidRequest("`text` must be a text", param="text")
    elif not text:
        error = EmptyInput("`text` cannot be empty", param="text")
    else:
        return Document(own_id, text, metadata)
    return Document(own_id, metadata=metadata, error=error)


def embed_request(texts: Sequence[str], options: EmbedOptions, *, request_id: str, deadline: float) -> EmbedRequest:
    """The request that makes of some texts what a job wants.

    Args:
        texts: Of documents without errors.
        options: Of the job.
        request_id: What it is called in logs.
        deadline: Unix seconds after which it is given up.
    """
    return EmbedRequest(
        request_id=request_id,
        deadline=deadline,
        texts=texts,
        truncate=options.truncate,
        truncation_side=options.truncation_side,
        normalize=options.normalize,
        dimensions=options.dimensions if Kind.DENSE in options.kinds else None,
        kinds=options.kinds,
        input_type=options.input_type,
        prompt_name=options.prompt_name,
        precisions=[options.precision],
    )
