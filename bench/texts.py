"""The texts of every measurement: seeded, so that each process makes the same ones by itself. Standard library only."""

import random
from functools import cache, lru_cache
from pathlib import Path

#: Texts in one pass of the bare forward; the load generator goes round them.
COUNT = 512
_SEED = 20
_FEWEST_WORDS, _MOST_WORDS = 6, 22
#: Each of them is one token of BERT's English vocabulary.
_WORDS = Path(__file__).parent / "words.txt"

#: Kinds of texts: a number is that many tokens each with BERT's vocabulary, special tokens included.
KINDS = ("short", "16", "128", "256", "512", "2048", "mix")
#: Lengths of the mix in tokens: log-normal as real corpora are, and as inference benchmarks assume.
_MIX_MEDIAN, _MIX_SIGMA, _MIX_LONGEST = 60, 0.8, 512


@cache
def words() -> list[str]:
    """What texts are made of."""
    return _WORDS.read_text().split()


@lru_cache(maxsize=32)
def texts_of(kind: str, count: int = COUNT) -> list[str]:
    """`count` texts of one of the `KINDS`; kept, and not to be changed."""
    if kind == "short":
        return short_texts(count)
    dice = random.Random(_SEED)
    if kind == "mix":
        drawn = [round(_MIX_MEDIAN * dice.lognormvariate(0, _MIX_SIGMA)) for _ in range(count)]
        lengths = [min(_MIX_LONGEST, length) for length in drawn]
    else:
        lengths = [int(kind)] * count
    return [" ".join(dice.choices(words(), k=max(1, length - 2))) for length in lengths]


def rerank_texts(kind: str, count: int) -> tuple[str, list[str]]:
    """A query of 16 tokens, and `count` documents of a kind."""
    return texts_of("16", 1)[0], texts_of(kind, count)


def short_texts(count: int = COUNT) -> list[str]:
    """`count` texts of 6 to 22 common English words, about 16 tokens each with MiniLM's vocabulary."""
    dice = random.Random(_SEED)
    return [" ".join(dice.choices(words(), k=dice.randint(_FEWEST_WORDS, _MOST_WORDS))) for _ in range(count)]
