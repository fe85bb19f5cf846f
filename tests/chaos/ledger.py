"""The ledger: what was asked, what came back and when, and whether that is what the service promises."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

#: How much later than its deadline a request may be answered, in seconds.
SLACK_S = 1.0
#: How long after a gateway is dead, or before it is known to be back, its clients may notice, in seconds.
_NOTICE_S = 0.5
#: Errors that tell a client what to do; those of the first set say when to come again.
_WITH_RETRY_AFTER = frozenset({429, 503})
_CLEAR = _WITH_RETRY_AFTER | {504}


class Verdict(StrEnum):
    """What a request's end means; from `LOST` on, a broken promise."""

    RIGHT = "right"
    CLEAR_ERROR = "clear error"
    NOT_ACCEPTED = "not accepted: the gateway was down"
    LOST = "lost"
    LATE = "late"
    DOUBLED = "answered twice"
    WRONG = "wrong vectors"
    UNCLEAR = "unclear error"

    @property
    def is_violation(self) -> bool:
        """Whether the service broke its promise."""
        return self not in (Verdict.RIGHT, Verdict.CLEAR_ERROR, Verdict.NOT_ACCEPTED)


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of the monotonic clock, in seconds."""

    begin: float
    end: float


@dataclass(slots=True)
class Outages:
    """When the gateway could do nothing, whatever it does."""

    #: Killed and not yet started again.
    down: list[Period] = field(default_factory=list)
    #: Stopped (SIGSTOP).
    frozen: list[Period] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request."""

    at: float
    status: int
    #: The header of an error, and its sentence.
    retry_after: str | None = None
    message: str = ""
    #: Of a 200: whether the vectors are those of its texts.
    is_right: bool = False


@dataclass(slots=True)
class Entry:
    """One request. Times are of the monotonic clock, in seconds."""

    sent_at: float
    deadline_s: float
    answers: list[Answer] = field(default_factory=list)
    #: How and when its connection ended without an answer.
    failure: str = ""
    failed_at: float = 0.0

    @property
    def seconds(self) -> float | None:
        """Time to its end; None when it has none."""
        end = self.answers[0].at if self.answers else self.failed_at if self.failure else None
        return None if end is None else end - self.sent_at

    @property
    def outcome(self) -> str:
        """Status of its answer, or how it failed."""
        return str(self.answers[0].status) if self.answers else self.failure or "no end"


class Ledger:
    """All requests. May be written from several threads."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._lock = threading.Lock()

    def sent(self, at: float, deadline_s: float) -> int:
        """Note a request; its number."""
        with self._lock:
            self.entries.append(Entry(at, deadline_s))
            return len(self.entries) - 1

    def answered(self, number: int, answer: Answer) -> None:
        """Note an answer to a request."""
        self.entries[number].answers.append(answer)

    def failed(self, number: int, at: float, how: str) -> None:
        """Note that a request's connection ended without an answer."""
        self.entries[number].failure, self.entries[number].failed_at = how, at

    def verdicts(self, outages: Outages) -> list[Verdict]:
        """What each request's end means."""
        return [judge(entry, outages) for entry in self.entries]


def judge(entry: Entry, outages: Outages) -> Verdict:
    """What a request's end means, with what is known of the gateway's outages."""
    if not entry.answers:
        was_down = entry.failure != "" and _within(entry.failed_at, outages.down, slack_s=_NOTICE_S)
        return Verdict.NOT_ACCEPTED if was_down else Verdict.LOST
    if len(entry.answers) > 1:
        return Verdict.DOUBLED
    answer = entry.answers[0]
    if answer.status == 200 and not answer.is_right:
        return Verdict.WRONG
    if answer.status != 200 and not _is_clear(answer):
        return Verdict.UNCLEAR
    if answer.at > latest(entry, outages):
        return Verdict.LATE
    return Verdict.RIGHT if answer.status == 200 else Verdict.CLEAR_ERROR


def latest(entry: Entry, outages: Outages) -> float:
    """When a request must have been answered: its deadline and the slack.

    The time in which its gateway was stopped is no gateway's to keep: what was sent then is read when it goes on, and counts
    from there; what became due then is answered when it goes on.
    """
    begin = entry.sent_at
    for period in outages.frozen:
        if period.begin <= begin <= period.end:
            begin = period.end
    due = begin + entry.deadline_s
    for period in outages.frozen:
        if period.begin <= due + SLACK_S and due <= period.end:
            due = period.end
    return due + SLACK_S


def _is_clear(answer: Answer) -> bool:
    return (
        answer.status in _CLEAR
        and " " in answer.message.strip()
        and (answer.status not in _WITH_RETRY_AFTER or (answer.retry_after or "").isdigit())
    )


def _within(at: float, periods: Sequence[Period], *, slack_s: float) -> bool:
    return any(period.begin <= at <= period.end + slack_s for period in periods)
