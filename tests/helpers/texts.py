"""Texts that find mistakes: of every length, in many scripts, with special tokens written out, and nearly empty."""

SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
]

TEXTS = [
    *SENTENCES,
    "x",
    "mill " * 200,
    "a river turns the wheel " * 4,
    "Straße, naïve café, déjà vu",
    "Привет мир. こんにちは世界。你好世界 🎉 مرحبا",
    " ",
    "\t\n",
    ".",
    "  leading and trailing spaces  ",
    "<pad> and </s> and [SEP] and <mask>, as a user may write them",
    "zero\u200bwidth \ufeff and \x00 control",
    "the end",
]
