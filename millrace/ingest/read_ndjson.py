"""NDJSON: a JSON object a line."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import IO, Any

import orjson

from millrace.ingest.documents import LONGEST_DOCUMENT_BYTES, Columns, Reading, listed
from millrace.ingest.problems import InputProblem
from millrace.ingest.sources import Source

#: Lines that are looked at before the first one is taken.
_TRIED_LINES = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_ndjson(source: Source, reading: Reading) -> Iterator[bytes]:
    """The documents of a file.

    A line that is no document is sent as it is: the service makes an error of it, which stands in the results.

    Raises:
        InputProblem: None of the first lines has a text, or a field that was asked for, so the name is the wrong one.
    """
    with source.binary() as file:
        lines = _lines(file, source.name)
        for line in chain(_first_lines(lines, reading.columns, source.name), lines):
            record = None if reading.columns.are_default else _record(line)
            yield line if record is None else reading.columns.line(record)


def _lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    """All lines that are not blank."""
    number = 0
    while line := file.readline(LONGEST_DOCUMENT_BYTES):
        number += 1
        if len(line) == LONGEST_DOCUMENT_BYTES:
            raise InputProblem(f"line {number} of {name} is longer than {LONGEST_DOCUMENT_BYTES >> 20} MiB")
        stripped = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
        if stripped:
            yield stripped


def _first_lines(lines: Iterator[bytes], columns: Columns, name: str) -> list[bytes]:
    """The lines up to where all fields have been seen that were asked for; no more, because a pipe may give them slowly."""
    taken: list[bytes] = []
    fields: dict[str, None] = {}
    wanted = columns.asked_for()
    for line in islice(lines, _TRIED_LINES):
        taken.append(line)
        fields |= dict.fromkeys(_record(line) or {})
        if all(field in fields for field, _ in wanted):
            return taken
    if fields:
        field, option = next((field, option) for field, option in wanted if field not in fields)
        lines_read = "line" if len(taken) < _TRIED_LINES else f"of the first {_TRIED_LINES} lines"
        raise InputProblem(
            f"no {lines_read} of {name} has the field {field!r}, only {listed(fields)}; choose with {option}"
        )
    if taken:
        raise InputProblem(f"{name} is not NDJSON: none of its first lines is a JSON object")
    return taken


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
