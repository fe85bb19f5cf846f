"""Results of a segment: packed and read again, and each document's line."""

import base64

import msgpack
import numpy as np
import orjson
import pytest

from shared.bulk.results import Part, SegmentResults
from shared.errors import EmptyInput, InputTooLong
from shared.results import Output, Precision, Ragged

_ROWS = np.array([[0.5, -0.25], [1.0, 2.0], [3.0, 4.0]], "<f4")


def _results() -> SegmentResults:
    """Five documents: one empty, one too long, and three whose vectors came in two parts, out of order."""
    first = Output(shape=(2, 2), data=_ROWS[[2, 0]].tobytes(), tokens=7)
    second = Output(shape=(1, 2), data=_ROWS[[1]].tobytes(), tokens=3)
    return SegmentResults(
        first=1000,
        ids=["a", 17, None, "d", "e"],
        metadata={0: {"page": 1}, 1: "kept"},
        parts=[Part([4, 0], first), Part([2], second)],
        errors={1: EmptyInput("`text` cannot be empty"), 3: InputTooLong()},
    )


def test_each_document_has_its_own_vector_or_error_in_order() -> None:
    lines = list(SegmentResults.unpack(_results().pack()).entries())
    assert [(line["index"], line["id"]) for line in lines] == [
        *((1000, "a"), (1001, 17), (1002, None), (1003, "d"), (1004, "e"))
    ]
    assert [line["embedding"].tolist() for line in lines if "embedding" in line] == _ROWS.tolist()
    assert lines[1] == {
        "index": 1001,
        "id": 17,
        "error": {"code": "empty_input", "message": "`text` cannot be empty"},
        "metadata": "kept",
    }
    assert lines[0]["metadata"] == {"page": 1}
    assert "metadata" not in lines[2]
    assert _results().tokens == 10


def test_lines_can_begin_in_the_middle() -> None:
    assert [line["index"] for line in _results().entries(start=3)] == [1003, 1004]


def test_vectors_are_written_as_the_reader_asks() -> None:
    floats = orjson.loads(orjson.dumps(list(_results().entries()), option=orjson.OPT_SERIALIZE_NUMPY))
    assert floats[0]["embedding"] == [0.5, -0.25]
    encoded = next(_results().entries("base64"))["embedding"]
    assert np.frombuffer(base64.b64decode(encoded), "<f4").tolist() == [0.5, -0.25]
    packed = msgpack.unpackb(msgpack.packb(list(_results().entries("binary"))))
    assert np.frombuffer(packed[0]["embedding"], "<f4").tolist() == [0.5, -0.25]


@pytest.mark.parametrize(("precision", "dtype"), [(Precision.INT8, "i1"), (Precision.FLOAT16, "<f2")])
def test_other_number_formats_stay_what_they_are(precision: Precision, dtype: str) -> None:
    rows = np.array([[1, -2]], dtype)
    output = Output(shape=(1, 0), data=b"", tokens=1, quantized={str(precision): rows.tobytes()})
    results = SegmentResults(first=0, ids=["a"], parts=[Part([0], output)], precision=precision)
    (line,) = SegmentResults.unpack(results.pack()).entries()
    assert line["embedding"].dtype == np.dtype(dtype)
    assert line["embedding"].tolist() == [1, -2]


def test_all_kinds_of_vectors_stand_beside_each_other() -> None:
    counts = np.array([2, 1], "<i4").tobytes()
    sparse = Ragged(counts, np.array([0.5, 0.25, 1], "<f4").tobytes(), 1, np.array([3, 9, 4], "<i4").tobytes())
    multivector = Ragged(counts, np.arange(6, dtype="<f4").tobytes(), 2)
    output = Output(shape=(2, 2), data=_ROWS[:2].tobytes(), tokens=5, sparse=sparse, multivector=multivector)
    results = SegmentResults(first=0, ids=["a", "b"], parts=[Part([0, 1], output)])
    first, second = orjson.loads(
        orjson.dumps(list(SegmentResults.unpack(results.pack()).entries()), option=orjson.OPT_SERIALIZE_NUMPY)
    )
    assert first["sparse"] == {"indices": [3, 9], "values": [0.5, 0.25]}
    assert second["sparse"] == {"indices": [4], "values": [1.0]}
    assert first["multivector"] == [[0, 1], [2, 3]]
    assert second == {"index": 1, "id": "b", "embedding": [1, 2], "sparse": second["sparse"], "multivector": [[4, 5]]}
