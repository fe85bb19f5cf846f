"""The table of a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was done or asked."""

    name: str
    seconds: float
    outcome: str
    passed: bool


class Report:
    """What was done, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def step(self, name: str, do: Callable[[], str]) -> str:
        """Do something and note how it went; a failure is noted and raised again."""
        print(f"... {name}", flush=True)  # noqa: T201 (a command line)
        began = time.monotonic()
        try:
            outcome = do()
        except BaseException as err:
            reason = str(err).strip() or type(err).__name__
            self.rows.append(Row(name, time.monotonic() - began, reason, passed=False))
            raise
        self.rows.append(Row(name, time.monotonic() - began, outcome, passed=True))
        return outcome

    def text(self) -> str:
        """As a table of Markdown."""
        lines = ["| | seconds | |", "|---|---|---|"]
        lines += [
            f"| {row.name} | {row.seconds:.1f} | {'' if row.passed else 'FAILED: '}{row.outcome.splitlines()[0]} |"
            for row in self.rows
        ]
        return "\n".join(lines)
