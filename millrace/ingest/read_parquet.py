"""Parquet, some rows at a time, and of each row only the columns that are wanted."""

from collections.abc import Iterator
from typing import Any

from millrace.ingest.arrow import arrow
from millrace.ingest.documents import Reading
from millrace.ingest.problems import InputProblem
from millrace.ingest.sources import STDIN, Source

_BATCH_ROWS = 1024


def read_parquet(source: Source, reading: Reading) -> Iterator[bytes]:
    """The documents of a file.

    Raises:
        InputProblem: It is no Parquet file, or a column is missing or holds no text.
    """
    if source.path == STDIN:
        raise InputProblem("Parquet cannot be read from standard input; give the file's name")
    if source.path.lower().endswith(".gz"):
        raise InputProblem(f"{source.name}: unpack it first; Parquet is compressed inside")
    pa, pq = arrow(source.name)
    try:
        with pq.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            reading.columns.check(names, source.name)
            _check_text(file.schema_arrow.field(reading.columns.text).type, reading.columns.text, source.name, pa)
            for batch in file.iter_batches(_BATCH_ROWS, columns=reading.columns.wanted(names)):
                for row in batch.to_pylist():
                    yield reading.columns.line(row)
    except pa.ArrowException as err:
        raise InputProblem(f"{source.name} cannot be read as Parquet: {str(err).splitlines()[0]}") from err


def _check_text(kind: Any, column: str, name: str, pa: Any) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_text(value) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise InputProblem(f"column {column!r} of {name} holds {kind}, not text; choose with --text-field")
