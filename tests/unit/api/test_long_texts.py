"""Texts that are far too long: what a worker would not look at is not sent, and it still sees that the text was too long."""

import pytest

from api.long_texts import read_tokens, shortened
from shared.jobs import (
    CHARACTERS_PER_MAX_TOKEN,
    ClassifyRequest,
    DecodeRequest,
    EmbedRequest,
    Request,
    RerankRequest,
    TokenizeRequest,
    estimated_tokens,
)

MOST = 8 * CHARACTERS_PER_MAX_TOKEN
LONG = "a" + "b" * MOST + "c"
ABOUT = {"request_id": "r", "deadline": 2e9}


@pytest.mark.parametrize(("side", "kept"), [("right", LONG[:-1]), ("left", LONG[1:])])
def test_one_character_more_than_is_looked_at_is_kept_of_the_right_end(side: str, kept: str) -> None:
    embed = shortened(EmbedRequest(**ABOUT, texts=["short", LONG], truncation_side=side), 8)
    assert embed.texts == ["short", kept]
    rerank = shortened(RerankRequest(**ABOUT, query=LONG, documents=[LONG, "short"], truncation_side=side), 8)
    assert (rerank.query, rerank.documents) == (LONG[:-1], [kept, "short"])
    pairs = shortened(ClassifyRequest(**ABOUT, texts=["one", LONG], seconds=[LONG, None], truncation_side=side), 8)
    assert (pairs.texts, pairs.seconds) == (["one", kept], [kept, None])


def test_of_a_document_in_parts_the_beginning_is_kept() -> None:
    request = shortened(EmbedRequest(**ABOUT, texts=["short", LONG, "short"], late_chunking=True), 8)

    assert request.texts == ["short", LONG[: MOST - 4], ""]
    assert request.characters == MOST + 1, "which tells the worker that there was more"


@pytest.mark.parametrize(
    "request_",
    [
        EmbedRequest(**ABOUT, texts=[LONG[:MOST]]),
        EmbedRequest(**ABOUT, texts=["short", LONG[: MOST - 5]], late_chunking=True),
        RerankRequest(**ABOUT, query="q", documents=["short"]),
        ClassifyRequest(**ABOUT, texts=["short"]),
        TokenizeRequest(**ABOUT, texts=[LONG]),
    ],
)
def test_others_stay_as_they_are(request_: Request) -> None:
    assert shortened(request_, 8) is request_


@pytest.mark.parametrize(
    ("request_", "most"),
    [
        (EmbedRequest(**ABOUT, texts=["word " * 100_000, "x", "y"]), 256 + 2 * 10),
        (EmbedRequest(**ABOUT, texts=["word " * 100_000], late_chunking=True), 256),
        (RerankRequest(**ABOUT, query="q", documents=["word " * 100_000, "x"]), 256 + 10),
        (RerankRequest(**ABOUT, query="word " * 100_000, documents=["x", "y"]), 2 * 256),
        (ClassifyRequest(**ABOUT, texts=["x", "y"], seconds=["word " * 100_000, None]), 256 + 10),
        (TokenizeRequest(**ABOUT, texts=["word " * 100_000, "x"]), 256 + 10),
        (DecodeRequest(**ABOUT, ids=[[7] * 100_000, [7]]), 256 + 10),
    ],
)
def test_one_endless_text_is_no_more_work_than_the_model_reads_of_it(request_: Request, most: int) -> None:
    assert 256 <= read_tokens(request_, 256) <= most


def test_of_ordinary_texts_all_is_read() -> None:
    request = EmbedRequest(**ABOUT, texts=["word " * 52] * 100)

    assert read_tokens(request, 256) == estimated_tokens(request.characters, request.items)
