"""Of a text that is far too long, what no worker looks at is not sent to it: fifteen megabytes would hold everybody up."""

from collections.abc import Sequence
from dataclasses import replace

from shared.jobs import (
    CHARACTERS_PER_MAX_TOKEN,
    ClassifyRequest,
    EmbedRequest,
    Request,
    RerankRequest,
    estimated_tokens,
)


def shortened(request: Request, max_tokens: int) -> Request:
    """The same request for a model that reads so many tokens; it still has a text where it had one that is too long.

    What only the tokenizer answers stays as it is.
    """
    # One more than is looked at, which tells the worker that there was more.
    most = max_tokens * CHARACTERS_PER_MAX_TOKEN + 1
    match request:
        case EmbedRequest(late_chunking=False) if _any_longer(request.texts, most):
            return replace(request, texts=_cut(request.texts, most, request.truncation_side))
        case EmbedRequest(late_chunking=True) if request.characters > most:
            return replace(request, texts=_beginning(request.texts, most))
        case RerankRequest() if _any_longer([request.query, *request.documents], most):
            documents = _cut(request.documents, most, request.truncation_side)
            return replace(request, query=request.query[:most], documents=documents)
        case ClassifyRequest() if _any_longer([*request.texts, *filter(None, request.seconds or ())], most):
            seconds = [second and _cut([second], most, request.truncation_side)[0] for second in request.seconds or ()]
            texts = _cut(request.texts, most, request.truncation_side)
            return replace(request, texts=texts, seconds=seconds if request.seconds is not None else None)
    return request


def read_tokens(request: Request, max_tokens: int) -> int:
    """Tokens that a model will read of a request, roughly: of each input no more than it takes.

    Without that end one text of some megabytes would look like a minute's work, and others would be refused for it.
    """
    whole = estimated_tokens(request.characters, request.items)
    if whole <= max_tokens or (isinstance(request, EmbedRequest) and request.images is not None):
        return whole
    return sum(min(max_tokens, estimated_tokens(size, 1)) for size in request.sizes)


def _any_longer(texts: Sequence[str], most: int) -> bool:
    return any(len(text) > most for text in texts)


def _cut(texts: Sequence[str], most: int, side: str) -> list[str]:
    return [text[-most:] if side == "left" else text[:most] for text in texts]


def _beginning(texts: Sequence[str], most: int) -> list[str]:
    """Texts that are one document, which is cut after so many characters: what is not reached stays as an empty text."""
    cut: list[str] = []
    for text in texts:
        cut.append(text[:most])
        most -= len(cut[-1])
    return cut
