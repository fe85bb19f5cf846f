"""The tokenizer of a folder: what has the form that Rust runs, and what has not."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from shared.model_config import ConfigurationError
from workers.tokenizer_call import fast_tokenizer_json


def test_a_fast_tokenizer_is_given_as_its_own_json() -> None:
    tokenizer = Tokenizer(WordLevel({"mill": 0, "[UNK]": 1}, unk_token="[UNK]"))
    found = fast_tokenizer_json("a", PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    assert Tokenizer.from_str(found).encode("mill").ids == [0]


def test_a_tokenizer_of_python_alone_is_refused_by_its_models_name() -> None:
    with pytest.raises(ConfigurationError, match=r"model mill/byt5 has no fast tokenizer"):
        fast_tokenizer_json("mill/byt5", ByT5Tokenizer())
