"""The cases: what every client is asked, and what has to come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Target(StrEnum):
    """Where a case is sent."""

    SERVICE = "service"  # the real service
    LOCKED = "locked"  # a gateway of the same service that asks for a key
    FULL = "full"  # a gateway that holds as much as it may
    CUT_OFF = "cut_off"  # a gateway whose Redis is gone


class Expected(StrEnum):
    """What has to come of a case."""

    NUMBERS = "numbers"  # the reference's vectors or scores
    WRONG_MODEL = "wrong_model"  # an error that says which models there are
    UNAUTHENTICATED = "unauthenticated"  # an error that tells of status 401
    OVERLOADED = "overloaded"  # an error that tells of status 429
    UNAVAILABLE = "unavailable"  # an error that tells of status 503


@dataclass(frozen=True)
class Case:
    """One column of the matrix."""

    name: str
    expected: Expected = Expected.NUMBERS
    target: Target = Target.SERVICE
    #: Texts to embed, documents to rank.
    texts: tuple[str, ...] = ()
    top_n: int | None = None
    model: str = ""
    key: str = "unused"
    #: Whether only ranks have it.
    of_ranks: bool = False
    #: The case without which there is not this one either: the reason is the same.
    follows: str = ""


#: The default model under the short name that users write.
MODEL = "all-MiniLM-L6-v2"
#: What the locked gateway asks for.
KEY = "mr_the-right-key-of-the-conformance-suite"
#: The cases of a key that is refused, and of none.
WRONG_KEY, NO_KEY = "wrong key", "no key"
QUERY = "Which mill stands by the fast water?"
#: More than TEI's default of 32 inputs, than Haystack's batches of 32 and LlamaIndex's of 10; all of different lengths and
#: meanings, so that a vector in a wrong place is seen.
MANY = tuple(
    f"{place} mill number {number} stands by {'very ' * (number % 5)}{water} water."
    for number, (place, water) in enumerate(
        (place, water)
        for place in ("The old", "A burnt", "Our", "The king's", "Some forgotten", "The last", "No", "Every")
        for water in ("fast", "still", "frozen", "muddy", "holy")
    )
)
FEW = MANY[:3]
UNICODE = (
    "Die Mühle steht am reißenden Wasser.",
    "Мельница стоит у быстрой воды.",  # noqa: RUF001 (Cyrillic)
    "水车立在急流旁。",
    "الطاحونة بجانب الماء السريع",
    "The mill 🌊 turns: e\u0301 is not \u00e9, “quoted”, \\backslash\\ and \u2028 a line separator.",
)
#: 1,002 tokens; the model reads 256.
TOO_LONG = ("water " * 1000, "A short one beside it.")

CASES = (
    Case("one", texts=FEW[:1]),
    Case("many", texts=MANY),
    Case("top_n", texts=MANY, top_n=3, of_ranks=True),
    Case("unicode", texts=UNICODE),
    Case("over-long", texts=TOO_LONG),
    Case("wrong model", Expected.WRONG_MODEL, texts=FEW, model="no-such-model"),
    Case("any key", texts=FEW, key="wrong", follows=WRONG_KEY),
    Case("right key", Expected.NUMBERS, Target.LOCKED, texts=FEW, key=KEY, follows=WRONG_KEY),
    Case(WRONG_KEY, Expected.UNAUTHENTICATED, Target.LOCKED, texts=FEW, key="wrong"),
    Case(NO_KEY, Expected.UNAUTHENTICATED, Target.LOCKED, texts=FEW, key=""),
    Case("429", Expected.OVERLOADED, Target.FULL, texts=FEW),
    Case("503", Expected.UNAVAILABLE, Target.CUT_OFF, texts=FEW),
)


def arguments(case: Case, kind: str, url: str) -> Mapping[str, Any]:
    """What a surface's function is called with."""
    common = {"url": url, "model": case.model or MODEL, "key": case.key}
    if kind == "embed":
        return {**common, "texts": list(case.texts)}
    return {**common, "query": QUERY, "documents": list(case.texts), "top_n": case.top_n}
