"""How far an ingest is, on standard error: bars in a terminal, else a line every few seconds."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

#: Pause between two lines where there is no terminal, in seconds.
_LINE_PERIOD_S = 5.0
#: Columns of a terminal that are kept for words.
_FACTS_COLUMNS = 76


@dataclass(frozen=True, slots=True)
class Standing:
    """An ingest at one moment."""

    #: Documents that the deployment has, bytes of them that this command sent, and whether there will be more.
    sent: int
    sent_bytes: int
    all_sent: bool
    #: Documents with vectors or errors, and those of them with errors.
    done: int
    failed: int
    tokens: int
    #: Documents per second, lately.
    rate: float
    #: Seconds until it has finished; None when that is not known.
    left_s: float | None
    #: Documents whose results are in the output file; None without one.
    written: int | None
    #: Whether the deployment does not answer just now.
    is_away: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing that advances."""

    name: str
    count: int
    total: int | None
    facts: str


def rows(standing: Standing) -> Iterator[_Row]:
    """What is shown of a moment."""
    total = standing.sent if standing.all_sent else None
    if standing.sent_bytes or not standing.all_sent:
        sent = f"{standing.sent:,} documents, {_size(standing.sent_bytes)}"
        yield _Row("sent", standing.sent, total, sent)
    of = f" of {standing.sent:,}" if standing.all_sent else ""
    facts = [f"{standing.done:,}{of}"]
    facts += [f"{standing.failed:,} failed"] if standing.failed else []
    if standing.is_away:
        facts.append("waiting for the service")
    elif total is None or standing.done < total:
        facts += [f"{standing.rate:,.0f}/s"] if standing.rate else []
        facts += [f"{duration(standing.left_s)} left"] if standing.left_s is not None else []
    facts.append(f"{_short(standing.tokens)} tokens")
    yield _Row("embedded", standing.done, total, ", ".join(facts))
    if standing.written is not None:
        yield _Row("written", standing.written, total, f"{standing.written:,}{of}")


class Display(Protocol):
    """Where the progress is shown."""

    def show(self, standing: Standing) -> None:
        """Show how it stands."""
        ...

    def close(self) -> None:
        """Leave the screen to others."""
        ...


class Nothing:
    """Shows nothing."""

    def show(self, standing: Standing) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_PERIOD_S

    def show(self, standing: Standing) -> None:
        """Print a line if it is time for one."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_PERIOD_S
            say("; ".join(f"{row.name} {row.facts}" for row in rows(standing)))

    def close(self) -> None:
        """Nothing is left to do."""


class Bars:
    """A bar for each thing that advances, drawn by rich."""

    def __init__(self) -> None:
        """Begin to draw.

        Raises:
            ImportError: rich is not installed.
        """
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=8)),
            BarColumn(bar_width=max(6, min(30, console.width - _FACTS_COLUMNS))),
            TextColumn("{task.fields[facts]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
        )
        self._tasks: dict[str, int] = {}
        self._progress.start()

    def show(self, standing: Standing) -> None:
        """Draw."""
        for row in rows(standing):
            if row.name not in self._tasks:
                self._tasks[row.name] = self._progress.add_task(row.name, facts="")
            task = self._progress.tasks[self._tasks[row.name]]
            # Without a total the bar moves by itself: a person sees that something goes on before there is a count.
            total = row.total if row.count else None
            self._progress.update(task.id, completed=row.count, total=total, facts=row.facts)

    def close(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()


def display(*, quiet: bool) -> Display:
    """What fits the place that standard error goes to."""
    if quiet:
        return Nothing()
    if sys.stderr.isatty():
        try:
            return Bars()
        except ImportError:
            pass
    return Lines()


def say(sentence: str) -> None:
    """Tell the person who started the command."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """A time span as a person would write it."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _size(count: int) -> str:
    return f"{_short(count)}B" if count >= 1000 else f"{count} B"


def _short(count: float) -> str:
    """A number with three digits and the letter of its thousands."""
    for letter in ("", " k", " M", " G"):
        if count < 999.5:
            return f"{count:.0f}{letter}" if count >= 99.95 or not letter else f"{count:.1f}{letter}"
        count /= 1000
    return f"{count:.1f} T"
