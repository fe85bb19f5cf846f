"""How a folder has its tokenizer called, beyond what the tokenizer's own JSON says.

By `split_special_tokens` of `tokenizer_config.json`, and by `processing_kwargs` of `sentence_bert_config.json`, which
sentence-transformers hands to the tokenizer's `__call__`. What changes token ids is done here too or refused by its name;
what only concerns padding and the form of the result changes no number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.model_config import ConfigurationError

#: Options that change no token of a text.
_WITHOUT_EFFECT = frozenset(
    {"padding", "padding_side", "pad_to_multiple_of", "return_tensors", "return_attention_mask", "verbose"}
    | {"logits_to_keep"}  # sentence-transformers' own: of a generated text's scores, not of its tokens
)
#: What every input is cut by, and the only values that `truncation` may have.
_TRUNCATIONS = (True, "longest_first")


def fast_tokenizer_json(model: str, tokenizer: Any) -> str:
    """What a transformers tokenizer is, as `tokenizer.json` has it.

    Raises:
        ConfigurationError: It has no such form: it is Python code, and texts are tokenised in Rust threads here.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigurationError(f"model {model} has no fast tokenizer (tokenizer.json)")
    found: str = tokenizer.backend_tokenizer.to_str()
    return found


@dataclass(frozen=True, slots=True)
class TokenizerCall:
    """What of the options changes token ids."""

    #: Longest input in tokens, special tokens included; None where the options do not say.
    max_length: int | None
    #: Whether special tokens are put around texts.
    add_special_tokens: bool
    #: Whether special tokens that a text spells out are words like others.
    split_special_tokens: bool

    @classmethod
    def of(
        cls, model: str, tokenizer: Any, processing: Mapping[str, Mapping[str, Any]], *, templated: bool = False
    ) -> "TokenizerCall":
        """Read the options of texts.

        Args:
            model: What the model is called.
            tokenizer: Its transformers tokenizer.
            processing: The folder's `processing_kwargs`.
            templated: Whether texts go through a chat template, which has options of its own and brings its own special
                tokens.

        Raises:
            ConfigurationError: There is one that is not done here.
        """
        # Later ones go before earlier ones, as sentence-transformers calls template and tokenizer.
        order = ("common", "text", "chat_template") if templated else ("text", "common")
        called = {name: value for kind in order for name, value in (processing.get(kind) or {}).items()}
        max_length, truncation = called.pop("max_length", None), called.pop("truncation", True)
        adds = called.pop("add_special_tokens", not templated)
        splits = called.pop("split_special_tokens", tokenizer.split_special_tokens)
        if templated:  # what is left may be the template's own
            called = {name: value for name, value in called.items() if name not in processing.get("chat_template", {})}
        wrong = {name: value for name, value in called.items() if name not in _WITHOUT_EFFECT}
        if truncation not in _TRUNCATIONS:
            wrong["truncation"] = truncation
        if templated and adds:
            wrong["add_special_tokens"] = adds
        if wrong:
            name, value = min(wrong.items())
            raise ConfigurationError(
                f"model {model}: {name}={value!r} of the processing_kwargs in its sentence_bert_config.json is not done here"
            )
        return cls(int(max_length) if max_length else None, bool(adds), bool(splits))

    def limit(self, length: int | None, most: int) -> int | None:
        """The longest query, or the longest document, where they have limits of their own; None where that of all counts.

        Args:
            length: `query_length` or `document_length` of `sentence_bert_config.json`; `max_length` of a call goes before.
            most: Longest input of the model.
        """
        return min(length, most) if length and not self.max_length else None
