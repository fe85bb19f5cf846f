"""Where results go: the output file's name says how they are written."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from millrace.ingest.problems import InputProblem
from millrace.ingest.write_ndjson import NdjsonWriter
from millrace.ingest.write_npy import NpyWriter, ids_path
from millrace.ingest.write_parquet import ParquetWriter, parts_path

_SUFFIXES = (".ndjson", ".jsonl", ".npy", ".parquet")


class Writer(Protocol):
    """Takes result lines in order and, opened again, knows which one it had last."""

    #: How vectors are to be written down in the lines: `float` or `base64`.
    encoding: str
    #: Number of the document whose result comes next.
    next_index: int

    def write(self, lines: list[bytes]) -> None:
        """Add the results of the next documents."""
        ...

    def close(self) -> None:
        """Leave what there is, to be continued."""
        ...

    def finish(self) -> str:
        """All results are there; what was made, in words."""
        ...


def check_output(path: Path, *, kinds: Sequence[str], overwrite: bool) -> None:
    """See that results can be written, before there are any.

    Args:
        path: The output file.
        kinds: What is to be made of the documents.
        overwrite: What is there may be replaced.

    Raises:
        InputProblem: They cannot.
    """
    if path.suffix not in _SUFFIXES:
        raise InputProblem(f"-o {path}: the name must end in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}")
    if path.suffix == ".npy" and list(kinds) != ["dense"]:
        raise InputProblem(
            f"-o {path}: a matrix holds dense vectors only; write {', '.join(kinds)} to .ndjson or .parquet"
        )
    if not path.parent.is_dir():
        raise InputProblem(f"-o {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise InputProblem(f"-o {path}: no file can be written there")
    there = next((place for place in (path, ids_path(path), parts_path(path)) if place.exists()), None)
    if there is not None and not overwrite:
        raise InputProblem(
            f"{there} is there already; replace it with --overwrite, or continue a job with --resume JOB"
        )


def open_writer(path: Path, *, resume: bool, precision: str, kinds: Sequence[str]) -> Writer:
    """The writer for an output file.

    Args:
        path: The output file.
        resume: Go on with what it has.
        precision: The dense vectors' number format.
        kinds: What the job makes of its documents.

    Raises:
        InputProblem: The file cannot be continued.
    """
    match path.suffix:
        case ".npy":
            return NpyWriter(path, resume=resume, precision=precision)
        case ".parquet":
            return ParquetWriter(path, resume=resume, precision=precision, kinds=kinds)
        case _:
            return NdjsonWriter(path, resume=resume)
