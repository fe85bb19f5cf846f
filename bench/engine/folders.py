"""Folders that `bench.engine` measures: an embedding model that reads 512 tokens, and a reranker of MiniLM's shape."""

import json
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers.utils import logging as transformers_logging

#: Tokens of the longest texts.
LONGEST = 512
_LIMITS = "sentence_bert_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def reading_longest(folder: Path, into: Path) -> Path:
    """The model, made to read `LONGEST` tokens if its files state fewer and it has positions for them.

    MiniLM's state 256, of 512: what texts that are longer cost would not be seen.

    Args:
        folder: The model's; not changed.
        into: Where a changed one goes; created.

    Returns:
        Either.
    """
    limits = folder / _LIMITS
    described = json.loads(limits.read_text()) if limits.exists() else {}
    positions = json.loads((folder / "config.json").read_text()).get("max_position_embeddings", 0)
    if described.get("max_seq_length", LONGEST) >= LONGEST or positions < LONGEST:
        return folder
    into.mkdir()
    for entry in folder.iterdir():
        if entry.name != _LIMITS:
            (into / entry.name).symlink_to(entry)
    (into / _LIMITS).write_text(json.dumps({**described, "max_seq_length": LONGEST}))
    return into


def cross_encoder(like: Path, into: Path) -> Path:
    """A reranker of a BERT's shape and vocabulary with random weights: speed does not depend on what they say.

    Args:
        like: Folder of the BERT.
        into: Where it goes; created.

    Returns:
        `into`.
    """
    transformers_logging.disable_progress_bar()
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(like, num_labels=1, architectures=["BertForSequenceClassification"])
    BertForSequenceClassification(config).save_pretrained(into)
    for name in _TOKENIZER_FILES:
        if (like / name).exists():
            (into / name).write_bytes((like / name).read_bytes())
    return into
