"""The default model, with its real weights, on a GPU."""

import random
from functools import cache

import numpy as np
import pytest

from shared.model_config import DEFAULT_MODEL
from shared.results import Kind
from tests.gpu import comparison
from tests.gpu.comparison import Array, difference, least_cosine
from tests.helpers.texts import SENTENCES, TEXTS
from tests.helpers.through_engine import Served
from workers.engine import Engine
from workers.engine_protocol import EngineOptions
from workers.scoring import normalized
from workers.sequences import Sequences
from workers.tokenization import Tokens
from workers.weights import local_folder

pytestmark = pytest.mark.gpu

#: Around the sizes for which an engine may keep a CUDA graph, in tokens.
BATCH_SIZES = [1, *(size + more for size in (32, 64, 128, 256, 512, 1024, 2048) for more in (-1, 0, 1))]
LONG = [*TEXTS, "the quick brown fox jumps over the lazy dog " * 80]
DTYPES = ["float32", "bfloat16", "float16"]


@cache
def served(device: str, dtype: str) -> Served:
    """The model on a device, loaded once."""
    return Served(local_folder(DEFAULT_MODEL), dtype=dtype, device=device)


def _assert_same(actual: list[Array], expected: list[Array], dtype: str) -> None:
    if dtype == "float32":
        assert difference(actual, expected) <= comparison.SAME_TOLERANCE
    assert least_cosine(actual, expected) >= comparison.LEAST_SAME_COSINE


def test_float32_is_the_cpus_float32(device: str) -> None:
    ours, expected = (list(served(where, "float32").embed(LONG)) for where in (device, "cpu"))

    assert difference(ours, expected) <= comparison.TOLERANCE
    assert 1 - least_cosine(ours, expected) <= comparison.COSINE_ERROR


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_half_precision_points_where_float32_points(device: str, dtype: str) -> None:
    coarse, exact = (list(served(device, kind).embed(LONG)) for kind in (dtype, "float32"))

    assert least_cosine(coarse, exact) >= comparison.LEAST_COSINE


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_similarities_are_the_published_ones(device: str, dtype: str) -> None:
    # Given the table in the model's own documentation
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]

    # When
    vectors = served(device, dtype).embed(SENTENCES)

    # Then
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-3 if dtype == "float32" else 5e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_text_gives_the_same_in_any_company(device: str, dtype: str) -> None:
    # Given
    model = served(device, dtype)
    together = dict(zip(LONG, model.embed(LONG), strict=True))

    # Then alone
    _assert_same([model.embed([text])[0] for text in LONG], list(together.values()), dtype)

    # And among others, in another order
    chosen = random.Random(2).choices(LONG, k=200)
    _assert_same(list(model.embed(chosen)), [together[text] for text in chosen], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_input_of_any_length_gives_the_same_alone_and_beside_all_others(device: str, dtype: str) -> None:
    # Given one input of each length up to the limit, in no order
    model = served(device, dtype)
    dice = random.Random(3)
    lengths = dice.sample(range(1, model.card.max_tokens + 1), k=model.card.max_tokens)
    inputs = [Tokens(dice.choices(range(2000, 20_000), k=length), None, length) for length in lengths]

    # When
    together = normalized(model.forward(inputs, [Kind.DENSE])[Kind.DENSE].values)
    alone = [normalized(model.forward([entry], [Kind.DENSE])[Kind.DENSE].values)[0] for entry in inputs]

    # Then
    _assert_same(alone, list(together), dtype)


def _sequences(dice: random.Random, tokens: int) -> Sequences:
    """A batch of so many tokens, in sequences of up to 100."""
    lengths: list[int] = []
    while (missing := tokens - sum(lengths)) > 0:
        lengths.append(min(missing, dice.randint(1, 100)))
    return Sequences(np.array(dice.choices(range(2000, 20_000), k=tokens), np.int32), np.array(lengths, np.int32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_of_any_size_gives_what_it_gives_as_a_part_of_a_large_one(device: str, dtype: str) -> None:
    # Given a batch of each size, and all of them in one
    engine = Engine(
        EngineOptions(
            models=[DEFAULT_MODEL],
            device=device,
            dtype=dtype,
            threads=1,
        )
    )
    dice = random.Random(5)
    batches = [_sequences(dice, size) for size in BATCH_SIZES]
    large = Sequences(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in ("ids", "lengths")))
    expected = list(normalized(engine.run(0, large, [Kind.DENSE])[Kind.DENSE].values))

    # When each is started before the rows of the one before it are read
    started = [engine.start(0, batch, [Kind.DENSE]) for batch in batches]
    rows = [row for batch in started for row in normalized(batch.rows()[Kind.DENSE].values)]

    # Then
    _assert_same(rows, expected, dtype)
