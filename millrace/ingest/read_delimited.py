"""CSV and TSV with a header line."""

import csv
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from millrace.ingest.documents import Reading
from millrace.ingest.problems import InputProblem
from millrace.ingest.sources import Source

_DELIMITERS = {".tsv": "\t", ".tab": "\t"}


def read_csv(source: Source, reading: Reading) -> Iterator[bytes]:
    """The documents of a file; tabs stand between the columns where its name says so.

    Raises:
        InputProblem: A column is missing, or a line cannot be read.
    """
    return _read(source, reading, _DELIMITERS.get(source.suffix, ","))


def read_tsv(source: Source, reading: Reading) -> Iterator[bytes]:
    """The documents of a file with tabs between the columns.

    Raises:
        InputProblem: A column is missing, or a line cannot be read.
    """
    return _read(source, reading, "\t")


def _read(source: Source, reading: Reading, delimiter: str) -> Iterator[bytes]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own is 128 KiB, less than a document
    with source.text(reading.encoding, newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            if rows.fieldnames is None:
                return
            reading.columns.check(rows.fieldnames, source.name)
            for row in rows:
                if None in row:
                    columns = (
                        f"{len(rows.fieldnames)} columns in its header and {_columns(row)} in line {rows.line_num}"
                    )
                    raise InputProblem(f"{source.name} has {columns}; a text with {_separator(delimiter)} needs quotes")
                yield reading.columns.line(row)
        except csv.Error as err:
            raise InputProblem(f"{source.name} is not {_name(delimiter)} after line {rows.line_num}: {err}") from err


def _columns(row: Mapping[str | None, Any]) -> int:
    """Columns that a row has: `csv` puts what is too much at None, and None where something is missing."""
    return sum(value is not None for name, value in row.items() if name is not None) + len(row.get(None) or ())


def _separator(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else "a comma"


def _name(delimiter: str) -> str:
    return "TSV" if delimiter == "\t" else "CSV"
