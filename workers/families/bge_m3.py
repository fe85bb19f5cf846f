"""bge-m3: dense, sparse and multi-vectors from one forward pass, as FlagEmbedding defines them.

Source: FlagEmbedding's `inference/embedder/encoder_only/m3.py` and `finetune/embedder/encoder_only/m3/modeling.py`. The two
extra heads are pickled tensors (`sparse_linear.pt`, `colbert_linear.pt`); they are loaded as weights only.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.model_config import ConfigurationError, ModelConfig
from shared.results import Kind
from workers.encoder import Hidden
from workers.family import Family, Outputs
from workers.rows import Rows
from workers.sentence_embedding import SentenceEmbedding
from workers.sequences import Sequences
from workers.weights import architecture

_SPARSE, _COLBERT = "sparse_linear.pt", "colbert_linear.pt"


class BgeM3(SentenceEmbedding):
    """One loaded model: a dense one as sentence-transformers describes it, and the heads beside it.

    A folder without sentence-transformers' files is pooled as FlagEmbedding does, by its first token.
    """

    def __init__(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(config, folder, device, dtype, bare_pooling="cls")
        self._sparse = _linear(folder / _SPARSE, device)
        self._colbert = _linear(folder / _COLBERT, device)
        tokenizer = self.tokenizer
        specials = (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
        self._not_words = torch.tensor([token for token in specials if token is not None], device=device)
        kinds = [Kind.DENSE]
        kinds += [Kind.SPARSE] if self._sparse is not None else []
        kinds += [Kind.MULTIVECTOR] if self._colbert is not None else []
        self.card = self.card.model_copy(update={"kinds": kinds})

    def forward(self, sequences: Sequences, kinds: Collection[Kind]) -> Outputs:
        """Whatever is wanted of one pass over the batch."""
        hidden = self._encoder(sequences)
        rows: dict[Kind, Tensor | Rows] = {}
        if Kind.DENSE in kinds:
            rows[Kind.DENSE] = self._pooled(hidden, sequences)
        if Kind.SPARSE in kinds and self._sparse is not None:
            rows[Kind.SPARSE] = self._lexical(hidden, self._sparse)
        if Kind.MULTIVECTOR in kinds and self._colbert is not None:
            rows[Kind.MULTIVECTOR] = _colbert_vectors(hidden, self._colbert)
        return rows

    def _lexical(self, hidden: Hidden, head: torch.nn.Linear) -> Rows:
        """ReLU(W h) per token; per vocabulary entry the largest of its tokens; special tokens and zeros left out."""
        weights = functional.relu(head(hidden.states.float()))[:, 0]
        keep = (weights > 0) & ~torch.isin(hidden.input_ids, self._not_words)
        vocabulary = int(self.base_model.config.vocab_size)
        # One key for each (sequence, entry): ordered by sequence, so that the rows come out as they are wanted.
        keys, at = torch.unique(
            hidden.seq_idx[keep] * vocabulary + hidden.input_ids[keep], sorted=True, return_inverse=True
        )
        largest = torch.zeros(len(keys), device=weights.device).scatter_reduce(0, at, weights[keep], "amax")
        counts = torch.bincount(keys // vocabulary, minlength=len(hidden.cu_seq_lens) - 1)
        return Rows(
            values=largest[:, None].cpu().numpy(),
            counts=counts.int().cpu().numpy(),
            indices=(keys % vocabulary).int().cpu().numpy(),
        )


def _colbert_vectors(hidden: Hidden, head: torch.nn.Linear) -> Rows:
    """W h for every token but the first, each of unit length."""
    keep = torch.ones(len(hidden.states), dtype=torch.bool, device=hidden.states.device)
    keep[hidden.cu_seq_lens[:-1].long()] = False
    vectors = functional.normalize(head(hidden.states[keep].float()), dim=-1)
    return Rows(values=vectors.cpu().numpy(), counts=(hidden.cu_seq_lens.diff() - 1).int().cpu().numpy())


def _linear(path: Path, device: torch.device) -> torch.nn.Linear | None:
    """A head from its file, in float32; None where the folder has none."""
    if not path.exists():
        return None
    state: Mapping[str, Tensor] = torch.load(path, map_location=device, weights_only=True)
    rows, columns = state["weight"].shape
    head = torch.nn.Linear(columns, rows, bias="bias" in state, device=device)
    head.load_state_dict({name: value.float() for name, value in state.items()})
    return head.eval()


class BgeM3Family:
    """XLM-RoBERTa folders with at least one of the extra heads."""

    name = "bge_m3"
    priority = 10

    def serves(self, folder: Path, config: Mapping[str, Any]) -> bool:
        """Told by the files of the heads."""
        heads = (folder / _SPARSE).exists() or (folder / _COLBERT).exists()
        return heads and config.get("model_type") == "xlm-roberta"

    def load(self, config: ModelConfig, folder: Path, device: torch.device, dtype: torch.dtype) -> BgeM3:
        """Load the model and its heads."""
        if not self.serves(folder, architecture(folder)):
            raise ConfigurationError(
                f"model {config.name}: family bge_m3 needs one of bge-m3's two heads (sparse_linear.pt, colbert_linear.pt)"
            )
        return BgeM3(config, folder, device, dtype)


PLUGIN: Family = BgeM3Family()
