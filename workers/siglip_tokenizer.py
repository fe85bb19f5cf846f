"""SigLIP's tokenizer, which transformers has in slow SentencePiece form only, as a fast one of the `tokenizers` library.

They differ on texts that spell out its tokens or hold control characters: what follows `</s>` or `<unk>` begins a word here,
a text that ends with `</s>` has it twice, and the separators of files and records (U+001C to U+001F) are no white space.
"""

import string
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SpmConverter


class _SiglipConverter(SpmConverter):  # type: ignore[misc]
    """The vocabulary, with what `SiglipTokenizer` does to a text before SentencePiece sees it."""

    def normalizer(self, proto: Any) -> Any:
        """Lower case, without ASCII punctuation, single spaces."""
        canonical = [
            *([normalizers.Lowercase()] if self.original_tokenizer.do_lower_case else []),
            normalizers.Replace(Regex("[" + "".join("\\" + mark for mark in string.punctuation) + "]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
        return normalizers.Sequence([*canonical, super().normalizer(proto)])

    def tokenizer(self, proto: Any) -> Any:
        """Without SentencePiece's control symbols: in a text `<pad>` is the word pad, as punctuation goes."""
        vocabulary = Unigram(self.vocab(proto), unk_id=self.unk_id(proto), byte_fallback=self.handle_byte_fallback)
        return Tokenizer(vocabulary)

    def post_processor(self) -> Any:
        """A text ends with its end token."""
        end = str(self.original_tokenizer.eos_token)
        return processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, self.original_tokenizer.eos_token_id)]
        )


def fast_siglip_tokenizer(slow: Any) -> Any:
    """The same tokenizer, fast.

    Args:
        slow: transformers' `SiglipTokenizer`.
    """
    backend = _SiglipConverter(slow).converted()
    special = {name: AddedToken(str(token), special=True) for name, token in slow.special_tokens_map.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side=slow.padding_side, model_input_names=slow.model_input_names, **special
    )
