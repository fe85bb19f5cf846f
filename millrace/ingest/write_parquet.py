"""Results as Parquet: `id`, `embedding` and what else the job makes, `metadata` as JSON, `error`.

A Parquet file cannot be continued once it is closed, so the results are written as part files into a folder beside it,
each there whole or not at all, and put together at the end, a row group each.
"""

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from millrace.ingest.arrow import arrow
from millrace.ingest.problems import InputProblem
from millrace.ingest.write_npy import DTYPES

#: Bytes of results in a row group, and the fewest and most rows.
_GROUP_BYTES = 16 << 20
_GROUP_ROWS = range(256, 65_536)


class ParquetWriter:
    """Writes results in row groups."""

    def __init__(self, path: Path, *, resume: bool, precision: str, kinds: Sequence[str]) -> None:
        """Look for the parts that are there.

        Args:
            path: Where the file will be.
            resume: Go on behind the last part.
            precision: The dense vectors' number format.
            kinds: What the job makes: `dense`, `sparse`, `multivector`.

        Raises:
            InputProblem: What is to be continued is no Parquet file, or pyarrow is missing.
        """
        self._pa, self._pq = arrow(str(path))
        #: How vectors are to be written down in the lines: multi-vectors would lose their shape as bytes.
        self.encoding = "float" if "multivector" in kinds else "base64"
        self._path, self._parts, self._kinds = path, parts_path(path), kinds
        self._dtype = np.dtype(DTYPES[precision])
        self._entries: list[dict[str, Any]] = []
        self._entries_bytes = 0
        if resume:
            self._recover()
        else:
            shutil.rmtree(self._parts, ignore_errors=True)
            path.unlink(missing_ok=True)
        self._parts.mkdir(parents=True, exist_ok=True)
        #: Number of the document whose result comes next.
        self.next_index = self._written = max((_range(part)[1] for part in self._parts.glob("*.parquet")), default=0)

    def write(self, lines: list[bytes]) -> None:
        """Add the results of the next documents."""
        for line in lines:
            self._entries.append(orjson.loads(line))
            self._entries_bytes += len(line)
            self.next_index += 1
            if self._group_is_full():
                self._write_part()

    def close(self) -> None:
        """Leave the parts as they are, to be continued."""
        if self._entries:
            self._write_part()

    def finish(self) -> str:
        """All results are there; what was made, in words."""
        self.close()
        parts = sorted(self._parts.glob("*.parquet"), key=_range)
        merged = self._path.with_name(f"{self._path.name}.tmp")
        schema = self._schema(parts)
        with self._pq.ParquetWriter(merged, schema) as writer:
            for part in parts:
                with self._pq.ParquetFile(part) as file:
                    for group in range(file.num_row_groups):
                        writer.write_table(_as(file.read_row_group(group), schema, self._pa))
        merged.replace(self._path)
        # In one step, so that a part of the parts is never taken for all of them.
        done = done_path(self._path)
        self._parts.rename(done)
        shutil.rmtree(done)
        return f"{self.next_index:,} rows in {len(parts)} row group{'s' if len(parts) != 1 else ''}"

    def _recover(self) -> None:
        shutil.rmtree(done_path(self._path), ignore_errors=True)
        for torn in self._parts.glob("*.tmp"):
            torn.unlink()
        if self._path.exists() and not any(self._parts.glob("*.parquet")):
            # Put together already, when the job had ended before it was complete.
            try:
                rows = self._pq.read_metadata(self._path).num_rows
            except self._pa.ArrowException as err:
                raise InputProblem(f"{self._path} is not a Parquet file; choose another one with -o") from err
            self._parts.mkdir(exist_ok=True)
            self._path.replace(self._parts / _part_name(0, rows))

    def _group_is_full(self) -> bool:
        rows = len(self._entries)
        return rows >= _GROUP_ROWS.stop or (rows >= _GROUP_ROWS.start and self._entries_bytes >= _GROUP_BYTES)

    def _write_part(self) -> None:
        part = self._parts / _part_name(self._written, self.next_index)
        torn = part.with_suffix(".tmp")
        self._pq.write_table(self._table(self._entries), torn, row_group_size=len(self._entries))
        torn.replace(part)
        self._written = self.next_index
        self._entries, self._entries_bytes = [], 0

    def _table(self, entries: list[dict[str, Any]]) -> Any:
        pa = self._pa
        columns = {"id": pa.array([_text(entry.get("id")) for entry in entries], pa.string())}
        if "dense" in self._kinds:
            columns["embedding"] = self._embeddings([entry.get("embedding") for entry in entries])
        if "sparse" in self._kinds:
            kind = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])
            columns["sparse"] = pa.array([entry.get("sparse") for entry in entries], kind)
        if "multivector" in self._kinds:
            kind = pa.list_(pa.list_(pa.float32()))
            columns["multivector"] = pa.array([entry.get("multivector") for entry in entries], kind)
        columns["metadata"] = pa.array([_json(entry.get("metadata")) for entry in entries], pa.string())
        columns["error"] = pa.array([entry.get("error", {}).get("message") for entry in entries], pa.string())
        return pa.table(columns)

    def _embeddings(self, written: list[Any]) -> Any:
        """A column of vectors; of unknown kind where there is none."""
        vectors = [None if vector is None else self._vector(vector) for vector in written]
        dimensions = next((len(vector) for vector in vectors if vector is not None), None)
        if dimensions is None:
            return self._pa.nulls(len(vectors))
        matrix = np.zeros((len(vectors), dimensions), self._dtype)
        for row, vector in enumerate(vectors):
            if vector is not None:
                matrix[row] = vector
        missing = self._pa.array([vector is None for vector in vectors])
        return self._pa.FixedSizeListArray.from_arrays(self._pa.array(matrix.ravel()), dimensions, mask=missing)

    def _vector(self, written: Any) -> Any:
        if isinstance(written, str):
            return np.frombuffer(base64.b64decode(written), self._dtype)
        return np.asarray(written, self._dtype)

    def _schema(self, parts: Sequence[Path]) -> Any:
        """The columns of all parts: one without vectors does not know what they are like."""
        schema = self._table([]).schema
        for part in parts:
            schema = self._pq.read_schema(part)
            if not any(self._pa.types.is_null(kind) for kind in schema.types):
                break
        return schema


def parts_path(path: Path) -> Path:
    """The folder of the parts of a file."""
    return path.with_name(f"{path.name}.parts")


def done_path(path: Path) -> Path:
    """The folder that the parts become when they have been put together."""
    return path.with_name(f"{path.name}.parts-done")


def _part_name(first: int, end: int) -> str:
    return f"{first:012d}-{end:012d}.parquet"


def _range(part: Path) -> tuple[int, int]:
    first, end = part.stem.split("-")
    return int(first), int(end)


def _as(table: Any, schema: Any, pa: Any) -> Any:
    columns = [
        pa.nulls(len(table), kind) if pa.types.is_null(column.type) else column
        for column, kind in zip(table.columns, schema.types, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
