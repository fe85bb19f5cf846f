"""What an ingest was begun with: kept in its job's metadata, so that resuming it needs to know no more than its id."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from millrace.ingest.documents import Columns, Reading
from millrace.ingest.problems import InputProblem

_KEY = "millrace_ingest"


@dataclass(frozen=True, slots=True)
class Plan:
    """How documents are read, and what results look like. None and empty stand for defaults."""

    format: str | None = None
    text_field: str | None = None
    id_field: str | None = None
    metadata_fields: str | None = None
    chunk_chars: int | None = None
    encoding: str | None = None
    kinds: str | None = None
    precision: str | None = None
    model: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    priority: int | None = None
    #: Digest of the files' names, and how many there are.
    names: str = ""
    files: int = 0

    @classmethod
    def asked_for(cls, options: argparse.Namespace) -> Self:
        """The plan of a command's options."""
        return cls(**{name: getattr(options, name) for name in _options()})

    @classmethod
    def of_job(cls, job: dict[str, Any]) -> Self | None:
        """The plan that a job was begun with; None when it was begun by something else."""
        kept = (job["metadata"] or {}).get(_KEY)
        if not isinstance(kept, dict):
            return None
        return cls(**{field.name: kept[field.name] for field in fields(cls) if field.name in kept})

    def for_files(self, names: Sequence[str]) -> Self:
        """The same plan for files of these names."""
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
        return replace(self, names=digest[:16], files=len(names))

    def as_metadata(self) -> dict[str, Any]:
        """What the job keeps."""
        return {_KEY: {name: value for name, value in asdict(self).items() if value is not None}}

    def check_resumed(self, asked: Self) -> None:
        """See that the options of a resumed ingest are those that it was begun with, or absent.

        Raises:
            InputProblem: One is another.
        """
        for name in _options():
            option, begun, given = f"--{name.replace('_', '-')}", getattr(self, name), getattr(asked, name)
            if given is not None and given != begun:
                was = f"with {option} {begun}" if begun is not None else f"without {option}"
                raise InputProblem(f"the job was begun {was}; leave {option} out to resume it")

    def check_foreign(self) -> None:
        """See that options of a resumed ingest that was begun by something else than this command say nothing about the job.

        Raises:
            InputProblem: One does.
        """
        for name in ("model", "dimensions", "truncate", "priority"):
            if getattr(self, name) is not None:
                raise InputProblem(f"--{name} is for new jobs; leave it out to resume one")

    def check_files(self, names: Sequence[str]) -> None:
        """See that the files are those that it was begun with.

        Raises:
            InputProblem: They are not.
        """
        if self.names and self.for_files(names).names != self.names:
            these = f"{self.files} file{'s' if self.files != 1 else ''}"
            raise InputProblem(
                f"the job was begun with {these} of other names than these {len(names)}; give the same ones"
            )

    def reading(self) -> Reading:
        """How files are made into documents."""
        metadata = None if self.metadata_fields is None else tuple(_listed(self.metadata_fields))
        columns = Columns(self.text_field or Columns().text, self.id_field, metadata)
        return Reading(columns, self.chunk_chars, self.encoding or Reading().encoding)

    def kind_list(self) -> list[str]:
        """The kinds of vectors."""
        return _listed(self.kinds or "dense")

    def number_format(self) -> str:
        """The dense vectors' number format."""
        return self.precision or "float32"


def _options() -> list[str]:
    return [field.name for field in fields(Plan) if field.name not in ("names", "files")]


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
