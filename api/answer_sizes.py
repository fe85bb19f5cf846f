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
            numbers = request.items * (request.dimensions or card.dimensions or 0) if Kind.DENSE in kinds else 0
            if Kind.SPARSE in kinds or Kind.MULTIVECTOR in kinds:
                tokens = min(estimated_tokens(request.characters, request.items), request.items * card.max_tokens)
                numbers += 2 * tokens if Kind.SPARSE in kinds else 0
                numbers += tokens * (card.dimensions or 0) if Kind.MULTIVECTOR in kinds else 0
            return _NUMBER * numbers
        case ClassifyRequest():
            return request.items * sum(_OBJECT + len(label) for label in card.labels)
        case RerankRequest():
            return _OBJECT * request.items
        case DecodeRequest():
            return _TOKEN_TEXT * request.characters
        case _:
            return BYTES_PER_TOKEN * request.characters  # a token may be a character
