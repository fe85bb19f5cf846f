"""Where results go: the output file's name says how they are written."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from millrace.ingest.ledger import Ledger
from millrace.ingest.problems import InputProblem
from millrace.ingest.write_ndjson import NdjsonWriter
from millrace.ingest.write_npy import NpyWriter, ids_path
from millrace.ingest.write_parquet import ParquetWriter, done_path, parts_path

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
    there = _there(path)
    if there is not None and not overwrite:
        raise InputProblem(
            f"{there} is there already; replace it with --overwrite, or continue a job with --resume JOB"
        )


def unfinished(path: Path, job_id: str) -> Ledger | None:
    """What is known of an output that a job has begun to write; None where nothing of it is there.

    Args:
        path: The output file.
        job_id: The job that is to go on with it.

    Raises:
        InputProblem: What is there is another's, or complete.
    """
    ledger, there = Ledger.of(path), _there(path)
    if there is None:
        return ledger if ledger is not None and ledger.job_id == job_id else None
    if ledger is None:
        raise InputProblem(
            f"{there} is no unfinished output of {job_id}; replace it with --overwrite, or choose another file with -o"
        )
    if ledger.job_id != job_id:
        raise InputProblem(
            f"{there} holds results of {ledger.job_id}; replace it with --overwrite, or choose another file with -o"
        )
    return ledger


def discard(path: Path) -> None:
    """Remove an output, finished or not."""
    for file in (path, ids_path(path)):
        file.unlink(missing_ok=True)
    for folder in (parts_path(path), done_path(path)):
        shutil.rmtree(folder, ignore_errors=True)


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


def _there(path: Path) -> Path | None:
    """What there is of an output."""
    places = (path, *([ids_path(path)] if path.suffix == ".npy" else []), parts_path(path))
    return next((place for place in places if place.exists()), None)
