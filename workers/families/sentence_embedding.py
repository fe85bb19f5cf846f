"""Dense embedding models: what sentence-transformers loads and no other family knows better."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.model_config import ModelConfig
from workers.family import Family
from workers.sentence_embedding import SentenceEmbedding


class SentenceEmbeddingFamily:
    """Every encoder that sentence-transformers loads and that has no head of its own."""

    name = "sentence_embedding"
    priority = 0

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Anything but a bare sequence classifier."""
        if (folder / "modules.json").exists():
            return True
        architecture = (config.get("architectures") or ["(none)"])[0]
        return not architecture.endswith("ForSequenceClassification")

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> SentenceEmbedding:
        """Load an embedding model."""
        return SentenceEmbedding(config, folder, device, dtype)


PLUGIN: Family = SentenceEmbeddingFamily()
