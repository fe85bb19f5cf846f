"""What a model family is: it loads a folder and turns sequences into rows of numbers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from shared.model_card import ModelCard
from shared.model_config import ModelConfig
from shared.results import Kind
from workers.input_format import InputFormat
from workers.rows import Rows
from workers.sequences import Sequences

#: What a forward pass gives for each kind.
Outputs = Mapping[Kind, Tensor | Rows]


def library_options(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """How sentence-transformers loads a folder for us: what is there, without its code, from safetensors only."""
    return {
        "device": str(device),
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": dtype, "use_safetensors": True},
    }


class LoadedModel(Protocol):
    """A model on its device."""

    #: Everything is filled in but what is measured: budget and speed.
    card: ModelCard
    #: How the worker turns texts into sequences.
    input_format: InputFormat

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:
        """Run a batch, called in inference mode.

        Args:
            sequences: The batch.
            kinds: What is wanted; of what the card promises.

        Returns:
            At least the wanted kinds. Dense vectors before normalisation (the worker normalises what asks for it) and
            logits as tensors on the device, one row a sequence, or for chunked sequences one a chunk; sparse vectors and
            multi-vectors as finished rows.
        """
        ...


class Family(Protocol):
    """Loads models of some architectures."""

    name: str
    #: Where several families would load a folder the highest one does.
    priority: int

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Whether it loads this folder, whose `config.json` is `config`; told by its files, without reading weights."""
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
