"""How large answers are taken to be before they are computed."""

import pytest

from api.answer_sizes import expected_bytes
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest, TokenizeRequest
from tests.helpers.fleets import card

TEXT = "a" * 40
CARD = card("model", dimensions=384, max_tokens=512, labels=["bad", "good"])
#: Of a text of so many characters, roughly, special ones included.
TOKENS = 12


def embed(**given: object) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=0, texts=[TEXT] * 3, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        (embed(), 3 * 384),
        (embed(dimensions=64), 3 * 64),
        (embed(kinds=["sparse"]), 3 * TOKENS * 2),
        (embed(kinds=["dense", "multivector"]), 3 * 384 + 3 * TOKENS * 384),
        (RerankRequest(request_id="r", deadline=0, query="q", documents=["d"] * 5), 5),
        (ClassifyRequest(request_id="r", deadline=0, texts=[TEXT] * 5), 5 * 2),
        (TokenizeRequest(request_id="r", deadline=0, texts=[TEXT]), 40 * 16),
        (DecodeRequest(request_id="r", deadline=0, ids=[[1, 2]]), 0),
    ],
)
def test_an_answer_has_its_numbers(request_: Request, numbers: int) -> None:
    assert expected_bytes(request_, CARD) == 4 * numbers


def test_no_more_tokens_are_expected_than_the_model_reads() -> None:
    long = EmbedRequest(request_id="r", deadline=0, texts=["a" * 10_000_000], kinds=["multivector"])

    assert expected_bytes(long, CARD) == 4 * 512 * 384
