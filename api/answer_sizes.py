"""How large an answer will be, before anything is computed for it."""

import numpy as np

from shared.jobs import ClassifyRequest, EmbedRequest, Request, RerankRequest, TokenizeRequest, estimated_tokens
from shared.model_card import ModelCard
from shared.results import BYTES_PER_TOKEN, Kind


def expected_bytes(request: Request, card: ModelCard) -> int:
    """Bytes of what a request asks for as numbers, roughly (`Output.size`).

    Args:
        request: What is asked.
        card: The model's.
    """
    number = np.dtype(np.float32).itemsize
    match request:
        case EmbedRequest(kinds=kinds):
            tokens = min(estimated_tokens(request.characters, request.items), request.items * card.max_tokens)
            rows = {
                Kind.DENSE: request.items * (request.dimensions or card.dimensions or 0),
                Kind.SPARSE: 2 * tokens,
                Kind.MULTIVECTOR: tokens * (card.dimensions or 0),
            }
            return number * sum(rows[Kind(kind)] for kind in kinds)
        case ClassifyRequest():
            return number * request.items * len(card.labels)
        case RerankRequest():
            return number * request.items
        case TokenizeRequest():
            return BYTES_PER_TOKEN * request.characters  # a token may be a character
        case _:
            return 0
