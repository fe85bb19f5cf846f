"""How large an answer will be, before anything is computed for it."""

from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest, estimated_tokens
from shared.model_card import ModelCard
from shared.results import BYTES_PER_TOKEN, Kind

#: A number as decimals, a label or a document with all that is around it, and the text of a token id, roughly.
_NUMBER, _OBJECT, _TOKEN_TEXT = 12, 60, 8


def expected_bytes(request: Request, card: ModelCard) -> int:
    """Bytes of the answer to a request, written as JSON, roughly; without documents, which are the caller's own.

    Args:
        request: What is asked.
        card: The model's.
    """
    match request:
        case EmbedRequest(kinds=kinds):
            tokens = min(estimated_tokens(request.characters, request.items), request.items * card.max_tokens)
            numbers = {
                Kind.DENSE: request.items * (request.dimensions or card.dimensions or 0),
                Kind.SPARSE: 2 * tokens,
                Kind.MULTIVECTOR: tokens * (card.dimensions or 0),
            }
            return _NUMBER * sum(numbers[Kind(kind)] for kind in kinds)
        case ClassifyRequest():
            return request.items * sum(_OBJECT + len(label) for label in card.labels)
        case RerankRequest():
            return _OBJECT * request.items
        case DecodeRequest():
            return _TOKEN_TEXT * request.characters
        case _:
            return BYTES_PER_TOKEN * request.characters  # a token may be a character
