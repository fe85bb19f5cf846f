"""`python -m bench.formats`: number formats of the weights on this CPU, what each gains and what it costs in quality.

float32 and bfloat16 are what a worker offers. int8, torch's dynamic quantisation of the linear layers' weights and
activations, is measured to show why it is not among them.
"""

import argparse
import sys
import time
import warnings
from collections import defaultdict
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench import machine
from bench.texts import texts_of
from shared.logging import configure_logging
from shared.model_config import DEFAULT_MODEL, ModelConfig
from shared.results import Kind
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.scoring import normalized
from workers.sequences import Sequences
from workers.tokenization import ModelTokenizer
from workers.weights import local_folder

_FORMATS = ("float32", "bfloat16", "int8")
#: Kind of texts and how many of them make a batch.
_SHAPES = {"16": 1, "16 x 64": 64, "mix": 32, "128": 8}
#: Texts whose vectors are compared, and how many nearest of each.
_COMPARED, _NEAREST = 128, 10

Vectors = npt.NDArray[np.float32]


class Contender:
    """The engine with weights in one format, on one thread."""

    def __init__(self, folder: Path, number_format: str) -> None:
        dtype = "float32" if number_format == "int8" else number_format
        options = EngineOptions(
            models=[ModelConfig(name="model", source=str(folder))],
            device="cpu",
            dtype=dtype,
            threads=1,
            batches_in_flight=1,
        )
        self._engine = Engine(options)
        (model,) = self._engine.models
        self._tokenizer = ModelTokenizer(model.input_format)
        if number_format == "int8":
            encoder: Any = model._encoder  # type: ignore[attr-defined]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecated in favour of a package that needs a compiler
                encoder._model = torch.ao.quantization.quantize_dynamic(encoder._model, {torch.nn.Linear}, torch.qint8)
            encoder._lone = None

    def embed(self, texts: list[str]) -> Vectors:
        """Unit vectors, from one forward pass."""
        tokens = self._tokenizer.encode(texts)
        ids = np.fromiter(chain.from_iterable(entry.ids for entry in tokens), np.int32)
        sequences = Sequences(ids, np.array([len(entry.ids) for entry in tokens], np.int32))
        return normalized(self._engine.run(0, sequences, [Kind.DENSE])[Kind.DENSE].values)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.formats", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of an embedding model; the default model when absent")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    configure_logging("warning", "text")
    folder = arguments.model or local_folder(DEFAULT_MODEL)
    contenders = {name: Contender(folder, name) for name in _FORMATS}
    where = machine.facts()
    print(f"{where['date']}, {where['cpu']}, one thread, medians over {arguments.rounds} interleaved rounds\n")
    _print_quality(contenders)
    _print_speed(contenders, arguments.rounds)
    return 0


def _print_quality(contenders: dict[str, Contender]) -> None:
    texts = texts_of("mix", _COMPARED)
    reference = contenders["float32"].embed(texts)
    nearest = _nearest(reference)
    print(f"{'':12}{'least cosine':>14}{'mean cosine':>14}{f'same {_NEAREST} nearest':>18}")
    for name, contender in contenders.items():
        vectors = contender.embed(texts)
        cosines = (vectors * reference).sum(axis=1)
        same = np.mean([len(mine & theirs) / _NEAREST for mine, theirs in zip(_nearest(vectors), nearest, strict=True)])
        print(f"{name:12}{cosines.min():14.5f}{cosines.mean():14.5f}{same:18.1%}")


def _nearest(vectors: Vectors) -> list[set[int]]:
    order = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")
    return [set(row[1 : _NEAREST + 1].tolist()) for row in order]


def _print_speed(contenders: dict[str, Contender], rounds: int) -> None:
    print(f"\n{'tokens':12}" + "".join(f"{name:>22}" for name in contenders))
    for shape, count in _SHAPES.items():
        texts = texts_of(shape.split()[0], count)
        seconds: dict[str, list[float]] = defaultdict(list)
        for number in range(rounds):
            for name in _FORMATS if number % 2 == 0 else reversed(_FORMATS):
                started = time.perf_counter()
                contenders[name].embed(texts)
                seconds[name].append(time.perf_counter() - started)
        base = median(seconds["float32"])
        cells = (f"{median(taken) * 1e3:12.1f} ms {base / median(taken):5.2f}x" for taken in seconds.values())
        print(f"{shape:12}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
