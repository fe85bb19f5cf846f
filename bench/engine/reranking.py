"""`python -m bench.engine.reranking FOLDER DTYPE`: what people rerank with instead, a measuring process.

sentence-transformers' CrossEncoder, and transformers as the model's card shows it.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bench.commands import answer_commands
from bench.texts import rerank_texts
from workers.input_format import InputFormat


class RerankReference:
    """Both libraries on one folder; a language model has its card's procedure only."""

    def __init__(self, folder: str, dtype: str, device: torch.device, input_format: InputFormat) -> None:
        self._device = device
        self._template = "".join(input_format.template)
        self._instruction = input_format.default_instruction
        self._max_tokens = input_format.max_tokens
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        options: dict[str, Any] = {"local_files_only": True, "dtype": getattr(torch, dtype)}
        loader = AutoModelForCausalLM if self._template else AutoModelForSequenceClassification
        self._model = loader.from_pretrained(folder, **options).to(device).eval()
        self._cross_encoder: Any = None
        if not self._template:
            kwargs = {"dtype": getattr(torch, dtype)}
            self._cross_encoder = CrossEncoder(folder, device=str(device), local_files_only=True, model_kwargs=kwargs)
        self.names = ["transformers"] if self._template else ["sentence_transformers", "transformers"]

    def sentence_transformers(self, query: str, documents: Sequence[str], *, batch_size: int) -> float:
        """Seconds of `predict`."""
        started = time.perf_counter()
        pairs = [(query, document) for document in documents]
        self._cross_encoder.predict(pairs, batch_size=batch_size, show_progress_bar=False)
        return time.perf_counter() - started

    def transformers(self, query: str, documents: Sequence[str], *, batch_size: int) -> float:
        """Seconds of padded batches: a classifier's logits, or those of "yes" and "no" as the next word."""
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(documents), batch_size):
                part = documents[start : start + batch_size]
                self._scores(query, part).float().cpu().numpy()
        return time.perf_counter() - started

    def _scores(self, query: str, documents: Sequence[str]) -> torch.Tensor:
        limits = {"padding": True, "truncation": True, "max_length": self._max_tokens, "return_tensors": "pt"}
        if not self._template:
            inputs = self._tokenizer([query] * len(documents), list(documents), **limits).to(self._device)
            scores: torch.Tensor = self._model(**inputs).logits
            return scores
        known = {"instruction": self._instruction, "query": query}
        texts = [self._template.format(document=document, **known) for document in documents]
        inputs = self._tokenizer(texts, **limits).to(self._device)
        # The card computes the whole vocabulary's logits of every token; this argument spares it all but the last.
        logits = self._model(**inputs, logits_to_keep=1).logits[:, -1]
        # Any two words take as long as those two.
        last: torch.Tensor = torch.log_softmax(logits[:, :2], dim=1)[:, 1].exp()
        return last


#: As for the embedding models.
_BATCH_SIZE = 32


def _timed(run: Callable[..., float], kind: str, count: int) -> dict[str, float]:
    query, documents = rerank_texts(kind, count)
    return {"seconds": run(query, documents, batch_size=_BATCH_SIZE)}


def _prepare() -> Mapping[str, Callable[..., Any]]:
    transformers_logging.disable_progress_bar()
    folder, dtype = sys.argv[1:]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    most = int(AutoConfig.from_pretrained(folder, local_files_only=True).max_position_embeddings)
    reference = RerankReference(folder, dtype, device, InputFormat(tokenizer_json="", max_tokens=most))
    commands = {name: partial(_timed, getattr(reference, name)) for name in reference.names}
    for command in commands.values():
        command("16", _BATCH_SIZE)
    return commands


if __name__ == "__main__":
    answer_commands(_prepare)
