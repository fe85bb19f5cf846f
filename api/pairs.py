"""Pairs of texts to score, under the names that vLLM has given to their two sides."""

from collections.abc import Mapping
from typing import Any

from api import schemas, wire
from api.documents import QueryDocument, TextDocument, text_of
from api.fields import Several
from api.places import Place, listed
from shared.errors import ContradictoryFields, InvalidRequest
from shared.places import QUERY

#: The sides of the pairs: a text or a list of them. Of the second ones some may be empty, as documents to rank may.
FirstSide = QueryDocument | Several[QueryDocument]
SecondSide = TextDocument | Several[TextDocument]

#: Names of the two sides.
SIDES = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))


def two_sides(names: tuple[str, str]) -> dict[str, Any]:
    """The JSON schema of a request that has these two sides and no other."""
    others = {name: {"type": "null"} for sides in SIDES for name in sides if name not in names}
    return {"allOf": [schemas.given(*names), {"properties": others}]}


def paired(given: Mapping[str, SecondSide | None]) -> list[tuple[str, list[str]]]:
    """Each first text with the second ones that it is scored with, in their order.

    Args:
        given: The sides by their names; None where a request does not have one.

    Raises:
        InvalidRequest: They are not named as sides are, or not texts.
        ContradictoryFields: They are not as many.
    """
    names = _names(given)
    firsts, seconds = (_texts(given[name], name) for name in names)
    wire.refuse_empty(firsts, names[0])
    if len(firsts) == 1:
        return [(firsts[0], seconds)]
    if len(firsts) != len(seconds):
        raise ContradictoryFields(
            f"{len(firsts)} `{names[0]}` do not go with {len(seconds)} `{names[1]}`; send one, or as many",
            param=names[0],
        )
    return [(first, [second]) for first, second in zip(firsts, seconds, strict=True)]


def place_of(given: Mapping[str, SecondSide | None]) -> Place:
    """Where the texts of the pairs stand, of which each first one is the query of a request of its own."""
    first, second = _names(given)
    queries, documents = listed(first, given[first]), listed(second, given[second])

    def place(number: int, index: int) -> str:
        if index == QUERY:
            return queries(number, number)
        return documents(number, number + index)  # either of the two is 0

    return place


def _names(given: Mapping[str, SecondSide | None]) -> tuple[str, str]:
    named = {name for name, side in given.items() if side is not None}
    names = next((names for names in SIDES if named == set(names)), None)
    if names is None:
        known = ", ".join(f"`{first}` with `{second}`" for first, second in SIDES)
        raise InvalidRequest(f"send two sides of texts to score: {known}", param=min(named, default="queries"))
    return names


def _texts(side: SecondSide | None, name: str) -> list[str]:
    documents = side if isinstance(side, list) else [] if side is None else [side]
    texts = [text_of(document, f"{name}[{index}]") for index, document in enumerate(documents)]
    wire.refuse_none(texts, name)
    return texts
