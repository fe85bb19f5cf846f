"""A corpus: documents of any number of files, one after the other, never more than a few in memory."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from millrace.ingest.documents import Reading
from millrace.ingest.problems import InputProblem
from millrace.ingest.read_delimited import read_csv, read_tsv
from millrace.ingest.read_ndjson import read_ndjson
from millrace.ingest.read_parquet import read_parquet
from millrace.ingest.read_text import TEXT_SUFFIXES, read_text
from millrace.ingest.sources import STDIN, Source

#: What reads each format.
READERS: dict[str, Callable[[Source, Reading], Iterator[bytes]]] = {
    "ndjson": read_ndjson,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "text": read_text,
}

_FORMATS = {
    **dict.fromkeys((".ndjson", ".jsonl"), "ndjson"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys(TEXT_SUFFIXES, "text"),
}


class Corpus:
    """All documents of some files and folders, in an order that does not change."""

    def __init__(self, paths: Sequence[str], reading: Reading, *, file_format: str | None = None) -> None:
        """Look at the files; nothing is read yet.

        Args:
            paths: Files, folders of text files, or `-` for standard input.
            reading: How they are made into documents.
            file_format: A key of `READERS`; None to go by each file's name.

        Raises:
            InputProblem: A file is missing or of no known format.
        """
        self._reading = reading
        self._files = [
            (source, READERS[file_format or _format(source)]) for path in paths for source in _sources(path, paths)
        ]
        #: Whether it can be read a second time.
        self.is_rereadable = all(source.is_rereadable for source, _ in self._files)
        #: Names of all files, those of folders too, without the folders.
        self.names = [Path(source.path).name for source, _ in self._files]
        #: Files that were read and hold no document, by name.
        self.empty: dict[str, None] = {}

    def check(self) -> None:
        """Read the beginning of each file that can be read again.

        Raises:
            InputProblem: One is not what it should be.
        """
        for source, read in self._files:
            if source.is_rereadable:
                next(self._read(source, read), None)

    def documents(self, start: int = 0, *, seen: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
        """The documents from number `start` on, as lines of JSON without line ends.

        Args:
            start: Number of the first one.
            seen: Called with each that stands before it.

        Raises:
            InputProblem: A file cannot be read.
        """
        documents = chain.from_iterable(self._read(source, read) for source, read in self._files)
        skipped = 0
        for document in islice(documents, start):
            skipped += 1
            if seen is not None:
                seen(document)
        if skipped < start:
            raise InputProblem(f"the files hold {skipped:,} documents, and the job has {start:,} of them already")
        return documents

    def left_out(self) -> str:
        """Says which files that were read hold no document."""
        names, count = list(self.empty), len(self.empty)
        shown = ", ".join(names[:3]) + (f" and {count - 3:,} more" if count > 3 else "")
        return f"{count:,} file{'s' if count != 1 else ''} without any text left out: {shown}"

    def _read(self, source: Source, read: Callable[[Source, Reading], Iterator[bytes]]) -> Iterator[bytes]:
        is_empty = True
        try:
            for document in read(source, self._reading):
                is_empty = False
                yield document
            if is_empty:
                self.empty[source.name] = None
        except UnicodeDecodeError as err:
            raise InputProblem(f"{source.name} is not {err.encoding}; choose another with --encoding") from err
        except (EOFError, zlib.error) as err:
            raise InputProblem(f"{source.name} is cut short or damaged: {err}") from err
        except OSError as err:
            raise InputProblem(f"{source.name} cannot be read: {err.strerror or err}") from err


def _sources(path: str, paths: Sequence[str]) -> list[Source]:
    if path == STDIN:
        return [Source(path, "stdin")]
    place = Path(path)
    if place.is_dir():
        # Two folders may hold files of the same name.
        before = f"{place.resolve().name}/" if len(paths) > 1 else ""
        found = [Source(str(file), before + file.relative_to(place).as_posix()) for file in _text_files(place)]
        if not found:
            raise InputProblem(f"the folder {path} holds no text files ({', '.join(TEXT_SUFFIXES)})")
        return found
    if not place.exists():
        raise InputProblem(f"there is no file {path}")
    return [Source(path, place.as_posix())]


def _text_files(folder: Path) -> list[Path]:
    """Text files in a folder and below, without hidden ones, by path."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in TEXT_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _format(source: Source) -> str:
    if source.path == STDIN:
        return "ndjson"
    if source.suffix not in _FORMATS:
        raise InputProblem(f"what {source.name} holds cannot be told by its name; say it with --format")
    return _FORMATS[source.suffix]
