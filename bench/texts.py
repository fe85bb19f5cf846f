"""The texts of every measurement: seeded, so that each process makes the same ones by itself."""

import random
from pathlib import Path

#: Texts in one pass of the bare forward; the load generator goes round them.
COUNT = 512
_SEED = 20
_FEWEST_WORDS, _MOST_WORDS = 6, 22
_WORDS = Path(__file__).parent / "words.txt"


def short_texts(count: int = COUNT) -> list[str]:
    """`count` texts of 6 to 22 common English words, about 16 tokens each with MiniLM's vocabulary."""
    dice = random.Random(_SEED)
    words = _WORDS.read_text().split()
    return [" ".join(dice.choices(words, k=dice.randint(_FEWEST_WORDS, _MOST_WORDS))) for _ in range(count)]
