"""The report of a run: tables for people, one mapping for programs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.chaos.bulk import JobVerdict
from tests.chaos.faults import Applied
from tests.chaos.ledger import Entry, Ledger, Outages, Verdict

#: Share of all requests that have to be answered rightly: who only refuses keeps promises too.
_LEAST_RIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a report is made of."""

    seed: int
    minutes: float
    began_at: float
    ledger: Ledger
    outages: Outages
    faults: Sequence[Applied]
    jobs: Sequence[JobVerdict]
    #: Parts that died without having been killed, as the supervisor's log has them.
    own_deaths: Sequence[str]


def is_violated(run: Run) -> bool:
    """Whether any promise was broken."""
    verdicts = list(run.ledger.verdicts(run.outages))
    right = sum(verdict is Verdict.RIGHT for verdict in verdicts)
    return (
        any(verdict.is_violation for verdict in verdicts)
        or any(job.is_violation for job in run.jobs)
        or right < _LEAST_RIGHT * len(verdicts)
        or any(recovery_s(fault, run.ledger.entries) is None for fault in run.faults)
        # A worker whose engine is killed while it loads gives up, and is started again.
        or any("part=worker" not in line for line in run.own_deaths)
    )


def recovery_s(fault: Applied, entries: Iterable[Entry]) -> float | None:
    """Seconds from a fault's end to the first right answer to a request that was sent after it; None if there was none."""
    answers = [
        entry.answers[0].at
        for entry in entries
        if entry.sent_at >= fault.end and entry.answers and entry.answers[0].status == 200
    ]
    return min(answers) - fault.end if answers else None


def summary(run: Run) -> dict[str, Any]:
    """The run as one mapping."""
    verdicts = run.ledger.verdicts(run.outages)
    seconds: dict[str, list[float]] = {}
    for entry in run.ledger.entries:
        seconds.setdefault(entry.outcome, []).append(entry.seconds or 0.0)
    recoveries: dict[str, list[float | None]] = {}
    for fault in run.faults:
        recoveries.setdefault(fault.kind, []).append(recovery_s(fault, run.ledger.entries))
    return {
        "seed": run.seed,
        "minutes": run.minutes,
        "faults": {kind: _recovery(times) for kind, times in sorted(recoveries.items())},
        "outcomes": {outcome: _latency(times) for outcome, times in sorted(seconds.items())},
        "verdicts": {verdict.value: Counter(verdicts)[verdict] for verdict in Verdict},
        "jobs": {
            "jobs": len(run.jobs),
            "documents": sum(job.documents for job in run.jobs),
            **{
                name: sum(len(getattr(job, name)) for job in run.jobs)
                for name in ("missing", "doubled", "failed", "wrong", "callbacks")
            },
            "trouble": [job.trouble for job in run.jobs if job.trouble],
        },
        "own_deaths": list(run.own_deaths),
        "violated": is_violated(run),
    }


def text(run: Run) -> str:
    """The run as tables."""
    told = summary(run)
    faults = [(kind, row["times"], row["median_s"], row["max_s"]) for kind, row in told["faults"].items()]
    outcomes = [
        (outcome, row["number"], row["p50_s"], row["p99_s"], row["max_s"]) for outcome, row in told["outcomes"].items()
    ]
    lines = [
        *_table(("fault", "times", "s until the next right answer: median", "most"), faults),
        "",
        *_table(("requests that ended with", "number", "p50 s", "p99 s", "most s"), outcomes),
        "",
        *_table(("which is", "requests"), list(told["verdicts"].items())),
    ]
    jobs = told["jobs"]
    lines += [
        "",
        f"bulk: {jobs['jobs']} jobs, {jobs['documents']} documents; {jobs['missing']} missing, {jobs['doubled']} doubled, "
        f"{jobs['failed']} failed, {jobs['wrong']} wrong, {jobs['callbacks']} not called back exactly once",
        *(f"bulk trouble: {trouble}" for trouble in jobs["trouble"]),
        *(f"died by itself: {line}" for line in told["own_deaths"]),
        *_violations(run),
        f"seed {run.seed}, {run.minutes:g} minutes: {'VIOLATED' if told['violated'] else 'every promise kept'}",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Aligned columns, the first to the left."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]


def _violations(run: Run) -> list[str]:
    """Each broken promise, with what was wrong at the time."""
    lines = []
    for entry, verdict in zip(run.ledger.entries, run.ledger.verdicts(run.outages), strict=True):
        if verdict.is_violation:
            end = entry.sent_at + (entry.seconds or 0.0)
            lines.append(
                f"{verdict}: sent at {entry.sent_at - run.began_at:.2f} s, deadline {entry.deadline_s:g} s, "
                f"{entry.outcome} after {entry.seconds or 0.0:.2f} s {[answer.message for answer in entry.answers]}; "
                f"faults meanwhile: {_around(run, entry.sent_at - 10, end)}"
            )
    more = [f"... and {len(lines) - 50} more"] if len(lines) > 50 else []
    return lines[:50] + more


def _around(run: Run, begin: float, end: float) -> str:
    return ", ".join(
        f"{fault.kind} {fault.begin - run.began_at:.2f} to {fault.end - run.began_at:.2f} s"
        for fault in sorted(run.faults, key=lambda fault: fault.begin)
        if fault.begin <= end and fault.end >= begin
    )


def _recovery(times: Sequence[float | None]) -> dict[str, Any]:
    known = [time for time in times if time is not None]
    never = len(times) - len(known)
    return {
        "times": len(times),
        "median_s": round(float(np.median(known)), 2) if known else None,
        "max_s": "never" if never else round(max(known), 2),
    }


def _latency(times: Sequence[float]) -> dict[str, Any]:
    return {
        "number": len(times),
        "p50_s": round(float(np.percentile(times, 50)), 3),
        "p99_s": round(float(np.percentile(times, 99)), 3),
        "max_s": round(max(times), 3),
    }
