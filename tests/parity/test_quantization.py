"""Calibrated integers of a served model are those that sentence-transformers makes of its own vectors."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantize_embeddings

from shared.jobs import EmbedRequest
from shared.model_config import DEFAULT_MODEL, ConfigurationError
from tests.helpers.texts import TEXTS
from tests.helpers.through_engine import Served
from workers.weights import local_folder

_FOLDER = local_folder(DEFAULT_MODEL)


def test_the_ranges_of_models_yaml_give_the_integers_of_sentence_transformers(tmp_path: Path) -> None:
    reference = SentenceTransformer(str(_FOLDER), local_files_only=True)
    vectors = np.asarray(reference.encode(TEXTS, normalize_embeddings=True), np.float32)
    # Other texts' ranges: the extremes of these would lie on the border of two steps, where float32's last bit decides.
    ranges = np.stack([vectors.min(axis=0) * 0.9 - 0.01, vectors.max(axis=0) * 1.1 + 0.01])
    np.save(tmp_path / "ranges.npy", ranges)
    served = Served(_FOLDER, int8_ranges=tmp_path / "ranges.npy")

    output = served.answer(EmbedRequest(request_id="r", deadline=0, texts=TEXTS, precisions=["int8", "uint8"]))

    for precision, dtype in (("int8", "i1"), ("uint8", "u1")):
        ours = np.frombuffer(output.quantized[precision], dtype).reshape(output.shape).astype(int)
        theirs = quantize_embeddings(vectors, precision, ranges=ranges).astype(int)
        assert np.abs(ours - theirs).max() <= 1
        assert (ours != theirs).mean() < 0.01
    assert served.card.int8_calibrated


def _ranges(least: float, greatest: float, *, only: int | None = None) -> npt.NDArray[np.float64]:
    """Ranges from -1 to 1, but for all dimensions or one of them."""
    ranges = np.array([[-1.0] * 384, [1.0] * 384])
    columns = slice(None) if only is None else slice(only, only + 1)
    ranges[:, columns] = [[least], [greatest]]
    return ranges


@pytest.mark.parametrize(
    ("ranges", "cause"),
    [
        (np.zeros((2, 7)), r"its shape is \(2, 7\)"),
        (_ranges(1, 0, only=5), r"dimension 5 goes from 1\.0 down to 0\.0"),
        (_ranges(np.nan, 1, only=5), r"dimension 5 goes from nan to 1\.0, and both have to be finite"),
        (_ranges(0, np.inf, only=5), r"dimension 5 goes from 0\.0 to inf, and both have to be finite"),
        (_ranges(0.5, 0.5), r"in every dimension the two are equal: it was made of one vector"),
    ],
    ids=["shape", "order", "no number", "infinite", "one vector"],
)
def test_ranges_that_do_not_fit_stop_the_start_with_their_fault(
    tmp_path: Path, ranges: npt.NDArray[np.float64], cause: str
) -> None:
    np.save(tmp_path / "ranges.npy", ranges)

    with pytest.raises(ConfigurationError, match=rf"least and the greatest value of each of 384 dimensions, .*{cause}"):
        Served(_FOLDER, int8_ranges=tmp_path / "ranges.npy")


def test_a_dimension_that_never_changes_is_quantised_as_sentence_transformers_does(tmp_path: Path) -> None:
    ranges = _ranges(0, 0, only=5).astype(np.float32)
    np.save(tmp_path / "ranges.npy", ranges)
    served = Served(_FOLDER, int8_ranges=tmp_path / "ranges.npy")

    output = served.answer(EmbedRequest(request_id="r", deadline=0, texts=TEXTS, precisions=["float32", "int8"]))

    vectors = np.frombuffer(output.data, "<f4").reshape(output.shape)
    ours = np.frombuffer(output.quantized["int8"], "i1").reshape(output.shape)
    np.testing.assert_array_equal(ours, quantize_embeddings(vectors, "int8", ranges=ranges))
