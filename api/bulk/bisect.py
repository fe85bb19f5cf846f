"""A failing request is halved until it is clear which document is at fault: the others get their vectors."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from shared.bulk.results import Part
from shared.errors import MillraceError, ModelNotFound, WrongTask
from shared.jobs import EmbedRequest
from shared.results import Output

#: Errors that every document of the request would get.
_OF_ALL = (ModelNotFound, WrongTask)

Build = Callable[[Sequence[str]], EmbedRequest]
Send = Callable[[EmbedRequest], Awaitable[Output]]


@dataclass(slots=True)
class Embedded:
    """What became of some documents: each has a row in one of the parts, or an error."""

    parts: list[Part] = field(default_factory=list)
    errors: dict[int, MillraceError] = field(default_factory=dict)


async def embed(places: Sequence[int], texts: Sequence[str], build: Build, send: Send) -> Embedded:
    """Embed texts; one that makes its request fail does so alone.

    Args:
        places: What the texts are called in the result, one for each.
        texts: Of documents without errors.
        build: The request of some texts; called again for each part of one that failed, so that its deadline is fresh.
        send: Has a request answered.

    Raises:
        MillraceError: A retryable one: nothing is said about the documents, the caller tries again.
    """
    embedded = Embedded()
    await _embed(list(places), list(texts), build, send, embedded)
    return embedded


async def _embed(places: list[int], texts: list[str], build: Build, send: Send, embedded: Embedded) -> None:
    if not places:
        return
    try:
        output = await send(build(texts))
    except MillraceError as error:
        if error.retryable:
            raise
        if len(places) == 1 or isinstance(error, _OF_ALL):
            embedded.errors.update(dict.fromkeys(places, error.named("the document")))
            return
    else:
        embedded.parts.append(Part(places, output))
        return
    middle = len(places) // 2
    await _embed(places[:middle], texts[:middle], build, send, embedded)
    await _embed(places[middle:], texts[middle:], build, send, embedded)
