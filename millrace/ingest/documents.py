"""Documents on their way to the service: one line of JSON each, without its line end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from millrace.ingest.problems import InputProblem

#: Longest line or file that is taken for one document, in bytes; services refuse far shorter ones.
LONGEST_DOCUMENT_BYTES = 16 << 20

_TEXT, _ID, _METADATA = "text", "id", "metadata"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a record are a document's text, id and metadata."""

    text: str = _TEXT
    #: None for `id`, where there is such a field.
    id: str | None = None
    #: Names of the fields that become metadata; None for what is in `metadata`, where there is such a field.
    metadata: tuple[str, ...] | None = None

    @property
    def are_default(self) -> bool:
        """Whether a line that has the service's own fields can stay as it is."""
        return self == Columns() or self == Columns(id=_ID)

    def asked_for(self) -> list[tuple[str, str]]:
        """The fields that there have to be, and the option that chooses each."""
        identity = [(self.id, "--id-field")] if self.id else []
        return [(self.text, "--text-field"), *identity, *((name, "--metadata-fields") for name in self.metadata or ())]

    def check(self, names: Collection[str], where: str) -> None:
        """See that a table has the columns that were asked for.

        Raises:
            InputProblem: One is missing.
        """
        for name, option in self.asked_for():
            if name not in names:
                raise InputProblem(f"{where} has no column {name!r}, only {listed(names)}; choose with {option}")

    def wanted(self, names: Collection[str]) -> list[str]:
        """The columns to be read of a table that has these."""
        metadata = (_METADATA,) if self.metadata is None else self.metadata
        wanted = dict.fromkeys([self.id or _ID, self.text, *metadata])
        return [name for name in wanted if name in names]

    def line(self, record: Mapping[str, Any]) -> bytes:
        """A record as a document."""
        document: dict[str, Any] = {}
        identity = record.get(self.id or _ID)
        if identity is not None:
            document["id"] = identity if isinstance(identity, (str, int)) else str(identity)
        if self.text in record:
            document["text"] = record[self.text]
        if self.metadata is not None:
            document[_METADATA] = {name: record.get(name) for name in self.metadata}
        elif record.get(_METADATA) is not None and self.text != _METADATA:
            document[_METADATA] = record[_METADATA]
        return document_line(document)


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are made into documents."""

    columns: Columns = field(default_factory=Columns)
    #: Longest piece of a text file, in characters; None for whole files.
    chunk_chars: int | None = None
    encoding: str = "utf-8"


def document_line(document: Mapping[str, Any]) -> bytes:
    """A document as a line; what JSON has no word for is written as text."""
    return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS)


def listed(names: Collection[str]) -> str:
    """Names for a sentence, the first dozen of them."""
    shown = [repr(name) for name in list(names)[:12]]
    return ", ".join(shown) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if shown else "none at all"
