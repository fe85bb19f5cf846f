"""Texts to token ids, in Rust and outside the GIL, exactly as the reference implementation configures it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

#: Characters per token of the model's maximum that are looked at. A megabyte is not tokenised to keep 512 tokens; the
#: factor is TEI's.
CHARACTERS_PER_MAX_TOKEN = 250


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised input."""

    ids: list[int]
    type_ids: list[int] | None
    #: Tokens before it was cut; equal to `len(ids)` when it was not.
    full_length: int


class ModelTokenizer:
    """The tokenizer of one model, without padding and with its truncation."""

    def __init__(self, tokenizer_json: str, *, max_tokens: int, takes_pairs: bool) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        # Of a pair only the document is cut: a truncated query would change what every document is scored against.
        strategy = "only_second" if takes_pairs else "longest_first"
        self._tokenizer.enable_truncation(max_tokens, strategy=strategy)
        self._takes_pairs = takes_pairs
        self._most_characters = max_tokens * CHARACTERS_PER_MAX_TOKEN

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise single texts."""
        cut = [text[: self._most_characters] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(cut)
        return [
            _tokens(encoding, beyond=len(text) > self._most_characters, pair=False)
            for encoding, text in zip(encodings, texts, strict=True)
        ]

    def encode_pairs(self, query: str, documents: Sequence[str]) -> list[Tokens]:
        """Tokenise (query, document) pairs.

        Raises:
            ValueError: The query alone fills the model's maximum length.
        """
        most = self._most_characters
        try:
            encodings = self._tokenizer.encode_batch_fast([(query[:most], document[:most]) for document in documents])
        except Exception as err:  # tokenizers raises plain Exception
            raise ValueError(str(err)) from err
        return [
            _tokens(encoding, beyond=len(document) > most, pair=True)
            for encoding, document in zip(encodings, documents, strict=True)
        ]


def _tokens(encoding: Encoding, *, beyond: bool, pair: bool) -> Tokens:
    ids = encoding.ids
    full = len(ids)
    overflow = encoding.overflowing
    if overflow:
        # Each overflowing piece repeats the special tokens (and in a pair the query); only its text counts.
        full += sum(len(piece.ids) - _repeated(piece) for piece in overflow)
    if beyond:
        full = max(full, len(ids) + 1)
    return Tokens(ids, encoding.type_ids if pair else None, full)


def _repeated(piece: Encoding) -> int:
    last = max((sequence for sequence in piece.sequence_ids if sequence is not None), default=0)
    return sum(sequence != last for sequence in piece.sequence_ids)
