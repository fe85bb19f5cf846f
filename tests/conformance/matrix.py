"""The table client by case, and what stands under it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import indent

from tests.conformance.cases import CASES
from tests.conformance.judge import Verdict


@dataclass
class Row:
    """One surface of one client."""

    client: str
    version: str
    surface: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)


@dataclass
class Matrix:
    """All rows, in the order in which they came."""

    rows: list[Row] = field(default_factory=list)
    #: Clients that were not run, each with the reason.
    not_run: dict[str, str] = field(default_factory=dict)

    def has_failures(self) -> bool:
        """Whether a case did not pass."""
        return any(verdict.failure for row in self.rows for verdict in row.verdicts.values())

    def text(self) -> str:
        """The table with its notes, then the failures."""
        notes: dict[str, int] = {}
        lines = [*_aligned([_HEAD, *(self._cells(row, notes) for row in self.rows)])]
        lines += [f"{client:<24}not run: {reason}" for client, reason in self.not_run.items()]
        lines += ["", _LEGEND, *(f"[{number}] {note}" for note, number in notes.items())]
        for row in self.rows:
            alike: dict[str, list[str]] = {}
            for case, verdict in row.verdicts.items():
                if verdict.failure:
                    alike.setdefault(verdict.failure[:_LONGEST_FAILURE], []).append(case)
            for failure, cases in alike.items():
                lines += [
                    "",
                    f"FAIL {row.client} {row.version}, {row.surface}: {', '.join(cases)}",
                    indent(failure, "     "),
                ]
        lines += ["", f"{totals(self.rows)}, {len(self.not_run)} clients not run"]
        return "\n".join(lines)

    def _cells(self, row: Row, notes: dict[str, int]) -> list[str]:
        cells = [row.client, row.version, row.surface]
        for case in CASES:
            verdict = row.verdicts[case.name]
            mark = f" [{notes.setdefault(verdict.note, len(notes) + 1)}]" if verdict.note else ""
            cells.append(verdict.word + mark)
        return cells


#: Characters of a failure that are printed: an error may repeat a whole answer.
_LONGEST_FAILURE = 1200

_HEAD = ["client", "version", "surface", *(case.name for case in CASES)]
_LEGEND = (
    "ok: the reference's vectors or scores; cut: those of the part that the model reads; accepted: any key is, where none\n"
    "is asked for; refused, told: the error says why; x3: after three tries; needs one: the client sends nothing without a\n"
    "key; hidden: the client swallows it; -: no case."
)


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def not_a_case(reason: str) -> Verdict:
    """The verdict on a case that a surface does not have."""
    return Verdict("-", note=reason)


def totals(rows: Sequence[Row]) -> str:
    """How many cases of some rows passed and failed."""
    verdicts = [verdict for row in rows for verdict in row.verdicts.values() if verdict.word != "-"]
    failed = sum(bool(verdict.failure) for verdict in verdicts)
    return f"{len(verdicts) - failed} passed, {failed} failed"
