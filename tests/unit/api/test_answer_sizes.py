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
    ("request_", "written"),
    [
        (embed(), 12 * 3 * 384),
        (embed(dimensions=64), 12 * 3 * 64),
        (embed(kinds=["sparse"]), 12 * 3 * TOKENS * 2),
        (embed(kinds=["dense", "multivector"]), 12 * (3 * 384 + 3 * TOKENS * 384)),
        (RerankRequest(request_id="r", deadline=0, query="q", documents=["d"] * 5), 60 * 5),
        (ClassifyRequest(request_id="r", deadline=0, texts=[TEXT] * 5), 5 * (63 + 64)),
        (TokenizeRequest(request_id="r", deadline=0, texts=[TEXT]), 64 * 40),
        (DecodeRequest(request_id="r", deadline=0, ids=[[1, 2]]), 8 * 2),
    ],
)
def test_an_answer_is_as_long_as_its_numbers_and_texts(request_: Request, written: int) -> None:
    assert expected_bytes(request_, CARD) == written


def test_no_more_tokens_are_expected_than_the_model_reads() -> None:
    long = EmbedRequest(request_id="r", deadline=0, texts=["a" * 10_000_000], kinds=["multivector"])

    assert expected_bytes(long, CARD) == 12 * 512 * 384
