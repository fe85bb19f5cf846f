"""Whether what a client brought back is what it should be. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tests.conformance.cases import NO_KEY, QUERY, Case, Expected

#: Largest difference of a component or of a score from the reference's: that of the parity tests.
TOLERANCE = 1e-5
#: The service's `Retry-After`, less what clocks may differ, in seconds.
RETRY_AFTER_S = 0.9

#: Status and words by which an error is known to have reached the user.
_SHOWN = {
    Expected.UNAUTHENTICATED: (401, r"401|is not valid here|none was sent"),
    Expected.OVERLOADED: (429, r"429|is the most"),
    Expected.UNAVAILABLE: (503, r"503|cannot reach its queue"),
    # Not the model's name: clients write that into their own messages.
    Expected.WRONG_MODEL: (None, r"is not served here|not found"),
}
#: Statuses that come with `Retry-After`.
_WITH_RETRY_AFTER = (429, 503)
_TOO_LONG_SHOWN = r"1002 tokens"


class Numbers(Protocol):
    """The reference."""

    def vectors(self, texts: Sequence[str], *, normalized: bool = True) -> npt.NDArray[np.float32]:
        """A row for each text."""
        ...

    def scores(self, query: str, documents: Sequence[str]) -> npt.NDArray[np.float32]:
        """A score for each document."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a call came to."""

    #: `result` or `error`, from the client's process.
    answer: Mapping[str, Any]
    #: Requests that reached a gateway in trouble; None for the service, which others ask at the same time.
    tries: int | None
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """One cell of the matrix."""

    word: str
    #: Why it failed; empty when it passed.
    failure: str = ""
    #: What a reader of the matrix has to know.
    note: str = ""


def judge(case: Case, surface: Mapping[str, Any], outcome: Outcome, reference: Numbers) -> Verdict:
    """The verdict on one case of one surface."""
    refused = case.name == "over-long" and surface["too_long"] == "refused"
    if case.expected is Expected.NUMBERS and not refused:
        return _judge_numbers(case, surface, outcome, reference)
    status, words = (None, _TOO_LONG_SHOWN) if refused else _SHOWN[case.expected]
    return _judge_error(case, surface, outcome, status, words, "refused" if refused else "told")


def _judge_numbers(case: Case, surface: Mapping[str, Any], outcome: Outcome, reference: Numbers) -> Verdict:
    error = outcome.answer.get("error")
    if error is not None:
        return Verdict("FAIL", f"raised {error['text']}")
    result = outcome.answer["result"]
    if surface["kind"] == "embed":
        texts = [surface["reads"], *case.texts[1:]] if surface["reads"] and case.name == "over-long" else case.texts
        texts = [surface["prefix"] + text for text in texts]
        failure = wrong_vectors(result, reference.vectors(texts, normalized=surface["normalized"]))
    else:
        failure = wrong_ranks(result, reference.scores(QUERY, case.texts), case.top_n)
    word = {"over-long": "cut", "any key": "accepted"}.get(case.name, "ok")
    return Verdict("FAIL", failure) if failure else Verdict(word)


def wrong_vectors(result: Sequence[Sequence[float]], expected: npt.NDArray[np.float32]) -> str:
    """What is wrong with vectors; empty when nothing is."""
    if len(result) != len(expected):
        return f"{len(result)} vectors for {len(expected)} texts"
    for place, (row, reference) in enumerate(zip(result, expected, strict=True)):
        if len(row) != len(reference):
            return f"vector {place} has {len(row)} dimensions, not {len(reference)}"
        error = float(np.abs(np.asarray(row, np.float64) - reference).max())
        if not error <= TOLERANCE:
            return f"vector {place} is {error:.1e} away from the reference"
    return ""


def wrong_ranks(result: Sequence[tuple[int, float]], expected: npt.NDArray[np.float32], top_n: int | None) -> str:
    """What is wrong with ranks; empty when nothing is."""
    wanted = min(top_n or len(expected), len(expected))
    places = [place for place, _ in result]
    if len(places) != wanted:
        return f"{len(places)} ranks, not {wanted}"
    if len(set(places)) != len(places) or not set(places) <= set(range(len(expected))):
        return f"the places {places} are not those of {len(expected)} documents"
    for place, score in result:
        error = abs(score - float(expected[place]))
        if not error <= TOLERANCE:
            return f"document {place} has the score {score:.6f}, {error:.1e} away from the reference"
    scores = [score for _, score in result]
    if scores != sorted(scores, reverse=True):
        return "the ranks are not sorted"
    left_out = np.delete(expected, places)
    if left_out.size and scores[-1] < float(left_out.max()) - TOLERANCE:
        return "better documents were left out"
    return ""


def _judge_error(
    case: Case, surface: Mapping[str, Any], outcome: Outcome, status: int | None, words: str, word: str
) -> Verdict:
    hidden = surface["hides"].get(case.name)
    tries = 1 if outcome.tries is None else outcome.tries
    if tries == 0 and case.name == NO_KEY and outcome.answer.get("error"):
        return Verdict("needs one")
    if tries == 0:
        return Verdict("FAIL", f"no request reached a route; {_shown(outcome)}")
    error = outcome.answer.get("error") or {"text": "", "status": None}
    is_shown = error["status"] == (status or -1) or re.search(words, error["text"]) is not None
    if hidden is not None:
        if is_shown:
            return Verdict("FAIL", f"declared as hidden ({hidden}), but it is shown: {error['text']}")
        return Verdict("hidden", note=hidden)
    if not is_shown:
        return Verdict("FAIL", f"the service's error does not show; {_shown(outcome)}")
    has_waited = tries > 1 and outcome.seconds >= (tries - 1) * RETRY_AFTER_S
    if surface["waits"] and status in _WITH_RETRY_AFTER and not has_waited:
        return Verdict("FAIL", f"Retry-After was not honoured: {tries} tries in {outcome.seconds:.1f} s")
    return Verdict(f"{word} x{tries}" if tries > 1 else word)


def _shown(outcome: Outcome) -> str:
    error = outcome.answer.get("error")
    return f"it raised {error['text']}" if error else f"it gave {str(outcome.answer.get('result'))[:200]}"
