"""What a model family is: it loads a folder and turns packed sequences into rows of numbers."""

from pathlib import Path
from typing import Protocol

import torch

from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from workers.sequences import Sequences


class LoadedModel(Protocol):
    """A model on its device."""

    #: Everything but the measured speed is filled in.
    card: ModelCard
    #: The tokenizer in the `tokenizers` library's JSON, as the reference implementation configured it.
    tokenizer_json: str
    #: Whether an item is a pair of texts (query, document) instead of one text.
    takes_pairs: bool

    def forward(self, sequences: Sequences) -> torch.Tensor:
        """Rows of shape (sequences, width), float32 on CPU: vectors before normalisation, or logits."""
        ...


class Family(Protocol):
    """Loads models of some architectures."""

    name: str

    def serves(self, architecture: str) -> bool:
        """Whether it loads this class name of `config.json`."""
        ...

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> LoadedModel:
        """Load a model.

        Args:
            config: What was asked for.
            folder: Its files.
            device: Where it runs.
            dtype: Number format of its weights.
        """
        ...
