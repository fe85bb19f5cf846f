"""Results as a numpy matrix of unknown length, and beside it `<name>.ids.ndjson` with what is not a number.

Row n belongs to document n, and to line n of the file of ids. A document with an error has a row of NaN (of zeros where
the numbers are whole ones). The header is written anew with each batch, so the file can be loaded at any time.
"""

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from millrace.ingest.problems import InputProblem

#: How numpy calls the service's number formats.
DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "uint8": "|u1", "binary": "|i1", "ubinary": "|u1"}


class NpyWriter:
    """Writes dense vectors as rows."""

    #: How vectors are to be written down in the lines.
    encoding = "base64"

    def __init__(self, path: Path, *, resume: bool, precision: str) -> None:
        """Open the two files.

        Args:
            path: Where the matrix is.
            resume: Go on behind the last row that both files have.
            precision: The vectors' number format.

        Raises:
            InputProblem: They are to be continued, but hold something else.
        """
        self._dtype = np.dtype(DTYPES[precision])
        self._dimensions: int | None = None
        ids = ids_path(path)
        self._vectors = path.open("r+b" if resume and path.exists() else "w+b")
        self._ids = ids.open("r+b" if resume and ids.exists() else "w+b")
        #: Number of the document whose result comes next.
        self.next_index = 0
        try:
            self._recover(path)
        except InputProblem:
            self.close()
            raise

    def write(self, lines: list[bytes]) -> None:
        """Add the results of the next documents."""
        entries = [orjson.loads(line) for line in lines]
        vectors = [self._vector(entry) for entry in entries]
        if self._dimensions is None:
            self._dimensions = next((len(vector) for vector in vectors if vector is not None), None)
            if self._dimensions is not None:  # what came before had errors only
                self._vectors.write(_header(self._dtype, 0, self._dimensions) + self._rows([None] * self.next_index))
        if self._dimensions is not None:
            self._vectors.write(self._rows(vectors))
        self._ids.write(b"".join(_without_vector(entry) for entry in entries))
        self.next_index += len(lines)
        self._write_header()
        self._ids.flush()

    def close(self) -> None:
        """Leave the files as they are, to be continued."""
        self._vectors.close()
        self._ids.close()

    def finish(self) -> str:
        """All results are there; what was made, in words."""
        if self._dimensions is None:
            self._dimensions = 0
            self._write_header()
        self.close()
        return f"{self.next_index:,} x {self._dimensions} {self._dtype.name}"

    def _vector(self, entry: dict[str, Any]) -> npt.NDArray[Any] | None:
        encoded = entry.get("embedding")
        return None if encoded is None else np.frombuffer(base64.b64decode(encoded), self._dtype)

    def _rows(self, vectors: list[npt.NDArray[Any] | None]) -> bytes:
        missing = np.nan if self._dtype.kind == "f" else 0
        matrix = np.full((len(vectors), self._dimensions or 0), missing, self._dtype)
        for row, vector in enumerate(vectors):
            if vector is not None:
                matrix[row] = vector
        return matrix.tobytes()

    def _write_header(self) -> None:
        if self._dimensions is not None:
            self._vectors.flush()  # the rows are there before the header counts them
            self._vectors.seek(0)
            self._vectors.write(_header(self._dtype, self.next_index, self._dimensions))
            self._vectors.flush()
            self._vectors.seek(0, os.SEEK_END)

    def _recover(self, path: Path) -> None:
        """Cut off what only one of the files has, and go on behind it."""
        rows, row_bytes, start = self._held(path)
        kept = end = 0
        self._ids.seek(0)
        for line in self._ids:
            # Without a header no vector has come: there can only be errors.
            if not line.endswith(b"\n") or kept == rows or (rows is None and "error" not in orjson.loads(line)):
                break
            kept, end = kept + 1, end + len(line)
        self._ids.truncate(end)
        self._ids.seek(end)
        self._vectors.truncate(start + kept * row_bytes)
        self._vectors.seek(0, os.SEEK_END)
        self.next_index = kept
        self._write_header()

    def _held(self, path: Path) -> tuple[int | None, int, int]:
        """Whole rows of the matrix, None where it has no header yet; bytes of a row; place of the first one."""
        size = self._vectors.seek(0, os.SEEK_END)
        start = len(_header(self._dtype, 0, 1))
        self._vectors.seek(0)
        if size < start:
            return None, 0, 0
        try:
            np.lib.format.read_magic(self._vectors)
            (_, dimensions), _, dtype = np.lib.format.read_array_header_1_0(self._vectors)
        except ValueError as err:
            raise InputProblem(f"{path} is not a matrix that an ingest wrote; choose another file with -o") from err
        if dtype != self._dtype:
            raise InputProblem(f"{path} holds {dtype}, and the job's vectors are {self._dtype}; choose another file")
        if dimensions == 0:
            return None, 0, 0
        self._dimensions = dimensions
        row_bytes = dimensions * self._dtype.itemsize
        return (size - start) // row_bytes, row_bytes, start


def ids_path(path: Path) -> Path:
    """The file of ids that belongs to a matrix."""
    return path.with_name(f"{path.name.removesuffix('.npy')}.ids.ndjson")


def _header(dtype: np.dtype[Any], rows: int, dimensions: int) -> bytes:
    """A matrix's header; numpy pads it, so that it is as long whatever the number of rows."""
    written = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": (rows, dimensions)}
    np.lib.format.write_array_header_1_0(written, described)
    return written.getvalue()


def _without_vector(entry: dict[str, Any]) -> bytes:
    return orjson.dumps({name: value for name, value in entry.items() if name != "embedding"}) + b"\n"
