"""`python -m bench.forward`: the bare model, without service or queue, a measuring process.

Two implementations on the same texts: the reference, as one would write it with sentence-transformers for speed (all
tokenised at once, sorted by length, padded batches, all cores), and Millrace's own packed engine.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional
from transformers.utils import logging as transformers_logging

from bench.commands import answer_commands
from bench.measurement import Measurement
from bench.texts import short_texts
from shared.model_config import ModelConfig
from shared.results import Kind
from workers import device as devices
from workers.batching import MIN_SHARE_TOKENS
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.scoring import normalized
from workers.sequences import Sequences
from workers.settings import WorkerSettings
from workers.tokenization import ModelTokenizer
from workers.weights import local_folder

Float32Array = npt.NDArray[np.float32]

_WARM_UP_TEXTS = 64


class Reference:
    """sentence-transformers, loaded as it loads by itself, on the worker's device and in its dtype."""

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._model = SentenceTransformer(
            str(local_folder(config)), device=str(device), local_files_only=True, model_kwargs={"dtype": dtype}
        ).eval()
        self._device = device

    def embed(self, texts: Sequence[str], batch_size: int) -> tuple[Float32Array, float]:
        """Unit vectors in input order, and the seconds that tokenising took."""
        started = time.perf_counter()
        tokenizer = self._model.tokenizer
        encoded = tokenizer(list(texts), truncation=True, max_length=self._model.max_seq_length)
        tokenization_s = time.perf_counter() - started
        order = sorted(range(len(texts)), key=lambda index: len(encoded["input_ids"][index]))
        vectors: list[Float32Array] = [np.empty(0, np.float32)] * len(texts)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                members = order[start : start + batch_size]
                batch = {name: [rows[index] for index in members] for name, rows in encoded.items()}
                features = tokenizer.pad(batch, return_tensors="pt").to(self._device)
                embedded = self._model(dict(features))["sentence_embedding"]
                unit = functional.normalize(embedded.float(), dim=1).cpu().numpy()
                for index, vector in zip(members, unit, strict=True):
                    vectors[index] = vector
        return np.stack(vectors), tokenization_s


class Packed:
    """Millrace's engine, called directly."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        model = engine.models[0]
        self._budget = model.card.max_batch_tokens
        self.tokenizer = ModelTokenizer(model.input_format)
        self._pool = ThreadPoolExecutor(engine.batches_in_flight)

    def embed(self, texts: Sequence[str], *, known: bool = True) -> tuple[Float32Array, float]:
        """Unit vectors in input order, and the seconds that tokenising took.

        Args:
            texts: What to embed.
            known: Whether all texts may be sorted first, or are batched in the order in which they come.
        """
        started = time.perf_counter()
        encoded = [tokens.ids for tokens in self.tokenizer.encode(texts)]
        tokenization_s = time.perf_counter() - started
        order: Sequence[int] = range(len(texts))
        if known:
            order = sorted(order, key=lambda index: len(encoded[index]))
        vectors: list[Float32Array] = [np.empty(0, np.float32)] * len(texts)
        batches = self._batches(order, encoded)
        alone = len(batches) == 1 or not self._engine.parallel

        def run(batch: Sequence[int]) -> None:
            members = sorted(batch, key=lambda index: len(encoded[index]))
            ids = np.concatenate([np.asarray(encoded[index], np.int32) for index in members])
            lengths = np.array([len(encoded[index]) for index in members], np.int32)
            rows = self._engine.run(0, Sequences(ids, lengths), [Kind.DENSE], alone=alone)[Kind.DENSE].values
            for index, vector in zip(members, normalized(rows), strict=True):
                vectors[index] = vector

        # As the worker has it run: beside each other where the engine can, and a lone batch on this thread.
        list(map(run, batches) if alone else self._pool.map(run, batches))
        return np.stack(vectors), tokenization_s

    def _batches(self, order: Sequence[int], encoded: Sequence[Sequence[int]]) -> list[list[int]]:
        budget = self._budget
        if self._engine.parallel:  # a few texts are shared out, as the worker's lanes do it
            share = -(-sum(map(len, encoded)) // self._engine.batches_in_flight)
            budget = min(budget, max(MIN_SHARE_TOKENS, share))
        batches: list[list[int]] = [[]]
        used = 0
        for index in order:
            if batches[-1] and used + len(encoded[index]) > budget:
                batches.append([])
                used = 0
            batches[-1].append(index)
            used += len(encoded[index])
        return batches


class Forward:
    """Both implementations, loaded and warm."""

    def __init__(self) -> None:
        transformers_logging.disable_progress_bar()
        settings = WorkerSettings.load()
        config = settings.models()[0]
        self._engine = Engine(replace(EngineOptions.of(settings), models=[config]))
        self._packed = Packed(self._engine)
        dtype = devices.choose_dtype(config.dtype or settings.dtype, self._engine.device)
        self._reference = Reference(config, self._engine.device, dtype)
        self._texts = short_texts()
        self._reference.embed(self._texts[:_WARM_UP_TEXTS], 16)
        self._packed.embed(self._texts[:_WARM_UP_TEXTS])

    def describe(self) -> dict[str, Any]:
        """What is measured, for the report."""
        card = self._engine.models[0].card
        tokens = sum(len(tokens.ids) for tokens in self._packed.tokenizer.encode(self._texts))
        return {
            "model": card.name,
            "device": devices.name(self._engine.device),
            "dtype": card.dtype,
            "threads": torch.get_num_threads(),
            "max_batch_tokens": card.max_batch_tokens,
            "texts": len(self._texts),
            "tokens_per_text": tokens / len(self._texts),
        }

    def reference(self, batch_size: int) -> dict[str, Any]:
        """One pass over all texts with the reference implementation."""
        started = time.perf_counter()
        _, tokenization_s = self._reference.embed(self._texts, batch_size)
        return self._measured(time.perf_counter() - started, tokenization_s)

    def packed(self) -> dict[str, Any]:
        """One pass over all texts with Millrace's engine."""
        started = time.perf_counter()
        _, tokenization_s = self._packed.embed(self._texts)
        return self._measured(time.perf_counter() - started, tokenization_s)

    def arriving(self, at_a_time: int) -> dict[str, Any]:
        """The same as a service gets them: in the order in which they come, and so many only when those before are done."""
        tokenization_s = 0.0
        started = time.perf_counter()
        for first in range(0, len(self._texts), at_a_time):
            tokenization_s += self._packed.embed(self._texts[first : first + at_a_time], known=False)[1]
        return self._measured(time.perf_counter() - started, tokenization_s)

    def singles(self, count: int, offset: int) -> dict[str, list[float]]:
        """Latencies in seconds of `count` texts, each embedded alone, by either implementation."""
        texts = [self._texts[(offset + index) % len(self._texts)] for index in range(count)]
        latencies: dict[str, list[float]] = {"reference": [], "packed": []}
        for text in texts:
            started = time.perf_counter()
            self._reference.embed([text], 1)
            latencies["reference"].append(time.perf_counter() - started)
        for text in texts:
            started = time.perf_counter()
            self._packed.embed([text])
            latencies["packed"].append(time.perf_counter() - started)
        return latencies

    def vectors(self, count: int) -> list[list[float]]:
        """The reference's vectors of the first texts."""
        vectors, _ = self._reference.embed(self._texts[:count], count)
        rows: list[list[float]] = vectors.tolist()
        return rows

    def _measured(self, seconds: float, tokenization_s: float) -> dict[str, Any]:
        return Measurement(texts=len(self._texts), seconds=seconds, forward_s=seconds - tokenization_s).to_json()


def _prepare() -> dict[str, Callable[..., Any]]:
    forward = Forward()
    return {
        "describe": forward.describe,
        "reference": forward.reference,
        "packed": forward.packed,
        "arriving": forward.arriving,
        "singles": forward.singles,
        "vectors": forward.vectors,
    }


if __name__ == "__main__":
    answer_commands(_prepare)
