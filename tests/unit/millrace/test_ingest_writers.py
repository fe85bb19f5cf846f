"""Results become files that can be continued after any interruption."""

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.ingest import write_parquet
from millrace.ingest.problems import InputProblem
from millrace.ingest.writers import Writer, check_output, open_writer

DIMENSIONS = 4


def result(index: int, *, failed: bool = False, dtype: str = "<f4") -> dict[str, Any]:
    entry: dict[str, Any] = {"index": index, "id": f"doc-{index}"}
    if failed:
        entry["error"] = {"code": "empty_input", "message": "`text` cannot be empty"}
    else:
        entry["embedding"] = (np.arange(DIMENSIONS) + index).astype(dtype)
    if index % 3 == 0:
        entry["metadata"] = {"page": index}
    return entry


def line(entry: dict[str, Any], encoding: str) -> bytes:
    if encoding == "base64" and "embedding" in entry:
        entry = entry | {"embedding": base64.b64encode(entry["embedding"].tobytes()).decode()}
    return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)


def opened(
    path: Path, *, resume: bool = False, precision: str = "float32", kinds: Sequence[str] = ("dense",)
) -> Writer:
    return open_writer(path, resume=resume, precision=precision, kinds=kinds)


def feed(writer: Writer, entries: Sequence[dict[str, Any]], batch: int = 3) -> None:
    lines = [line(entry, writer.encoding) for entry in entries[writer.next_index :]]
    for start in range(0, len(lines), batch):
        writer.write(lines[start : start + batch])


def assert_matrix(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    matrix = np.load(path)
    lines = [orjson.loads(text) for text in path.with_suffix(".ids.ndjson").read_bytes().splitlines()]
    assert [entry["id"] for entry in lines] == [entry["id"] for entry in entries]
    assert [entry.get("error") for entry in lines] == [entry.get("error") for entry in entries]
    assert [entry.get("metadata") for entry in lines] == [entry.get("metadata") for entry in entries]
    assert all("embedding" not in entry for entry in lines)
    assert len(matrix) == len(entries)
    for row, entry in zip(matrix, entries, strict=True):
        expected: npt.NDArray[Any] = entry.get("embedding", np.full(matrix.shape[1], np.nan))
        np.testing.assert_array_equal(row, expected)


def assert_table(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    rows = pq.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == [entry["id"] for entry in entries]
    vectors = [None if "error" in entry else entry["embedding"].tolist() for entry in entries]
    assert [row["embedding"] for row in rows] == vectors
    metadata = [orjson.dumps(entry["metadata"]).decode() if "metadata" in entry else None for entry in entries]
    assert [row["metadata"] for row in rows] == metadata
    assert [row["error"] for row in rows] == [entry.get("error", {}).get("message") for entry in entries]


FAILURES = st.lists(st.booleans(), max_size=12)


class TestNdjson:
    def test_lines_are_written_as_they_came(self, tmp_path: Path) -> None:
        entries = [result(index, failed=index == 2) for index in range(7)]

        writer = opened(tmp_path / "a.ndjson")
        feed(writer, entries)
        made = writer.finish()

        assert (tmp_path / "a.ndjson").read_bytes() == b"".join(line(entry, "float") + b"\n" for entry in entries)
        assert made == "7 lines"

    def test_it_is_continued_after_a_cut_anywhere(self, tmp_path: Path) -> None:
        entries = [result(index, failed=index == 1) for index in range(4)]
        whole = b"".join(line(entry, "float") + b"\n" for entry in entries)
        path = tmp_path / "a.jsonl"

        for size in range(len(whole) + 1):
            path.write_bytes(whole[:size])
            writer = opened(path, resume=True)
            assert writer.next_index == whole[:size].count(b"\n")
            feed(writer, entries)
            writer.finish()
            assert path.read_bytes() == whole

    def test_a_line_longer_than_a_block_is_found(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ndjson"
        path.write_bytes(b'{"index":0}\n{"index":1,"x":"%s"}\n{"index":2,"x":"%s' % (b"x" * 200_000, b"y" * 200_000))

        writer = opened(path, resume=True)
        writer.close()

        assert writer.next_index == 2

    def test_another_file_is_not_continued(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ndjson"
        path.write_text('{"id": 1, "text": "my only copy"}\n')

        with pytest.raises(InputProblem, match="does not hold results"):
            opened(path, resume=True)
        assert "my only copy" in path.read_text()


class TestNpy:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(failures=FAILURES, batch=st.integers(1, 5))
    def test_rows_and_ids_stand_side_by_side(self, tmp_path: Path, failures: list[bool], batch: int) -> None:
        entries = [result(index, failed=failed) for index, failed in enumerate(failures)]

        writer = opened(tmp_path / "a.npy")
        feed(writer, entries, batch)
        writer.finish()

        assert_matrix(tmp_path / "a.npy", entries)

    @pytest.mark.parametrize("failures", [[False] * 4, [True, True, False, True], [True] * 4])
    def test_it_is_continued_after_a_cut_anywhere(self, tmp_path: Path, failures: list[bool]) -> None:
        entries = [result(index, failed=failed) for index, failed in enumerate(failures)]
        path, ids = tmp_path / "a.npy", tmp_path / "a.ids.ndjson"
        writer = opened(path)
        feed(writer, entries, 2)
        writer.close()
        vectors, lines = path.read_bytes(), ids.read_bytes()

        for size in [*range(0, len(vectors), 5), len(vectors)]:
            for ids_size in [*range(0, len(lines), 23), len(lines)]:
                path.write_bytes(vectors[:size])
                ids.write_bytes(lines[:ids_size])
                writer = opened(path, resume=True)
                assert writer.next_index <= lines[:ids_size].count(b"\n")
                feed(writer, entries)
                writer.finish()
                assert_matrix(path, entries)

    def test_the_matrix_can_be_loaded_while_it_grows(self, tmp_path: Path) -> None:
        writer = opened(tmp_path / "a.npy")
        for index in range(3):
            writer.write([line(result(index), "base64")])
            assert np.load(tmp_path / "a.npy").shape == (index + 1, DIMENSIONS)
        assert np.load(tmp_path / "a.npy", mmap_mode="r").dtype == np.float32
        writer.close()

    @pytest.mark.parametrize(
        ("precision", "dtype"),
        [("float16", "<f2"), ("int8", "i1"), ("uint8", "u1"), ("binary", "i1"), ("ubinary", "u1")],
    )
    def test_other_number_formats_keep_theirs(self, tmp_path: Path, precision: str, dtype: str) -> None:
        entries = [result(0, dtype=dtype), result(1, failed=True)]

        writer = opened(tmp_path / "a.npy", precision=precision)
        feed(writer, entries)
        writer.finish()

        matrix = np.load(tmp_path / "a.npy")
        assert matrix.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(matrix[0], entries[0]["embedding"])
        with pytest.raises(InputProblem, match="choose another file"):
            opened(tmp_path / "a.npy", resume=True, precision="float32")

    def test_another_file_is_not_continued(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"my only copy" * 20)

        with pytest.raises(InputProblem, match="not a matrix"):
            opened(tmp_path / "a.npy", resume=True)
        assert (tmp_path / "a.npy").read_bytes() == b"my only copy" * 20


class TestParquet:
    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(write_parquet, "_GROUP_ROWS", range(2, 4))
        monkeypatch.setattr(write_parquet, "_GROUP_BYTES", 100)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
    @given(failures=FAILURES, batch=st.integers(1, 5))
    def test_all_results_are_rows(self, tmp_path: Path, failures: list[bool], batch: int) -> None:
        entries = [result(index, failed=failed) for index, failed in enumerate(failures)]
        path = tmp_path / "a.parquet"

        writer = opened(path)
        feed(writer, entries, batch)
        writer.finish()

        assert_table(path, entries)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.parquet"]
        if not all(failures):
            assert str(pq.read_schema(path).field("embedding").type) == "fixed_size_list<element: float>[4]"

    @pytest.mark.parametrize("failures", [[False] * 9, [True] * 4 + [False] * 5, [True] * 9])
    def test_it_is_continued_after_an_end_at_any_document(self, tmp_path: Path, failures: list[bool]) -> None:
        entries = [result(index, failed=failed) for index, failed in enumerate(failures)]

        for count in range(len(entries) + 1):
            for is_closed in (False, True):  # interrupted, or killed
                path = tmp_path / f"{count}-{is_closed}.parquet"
                writer = opened(path)
                feed(writer, entries[:count], 1)
                if is_closed:
                    writer.close()
                (tmp_path / f"{path.name}.parts" / "000000000000-000000000009.tmp").write_bytes(b"torn")
                writer = opened(path, resume=True)
                assert writer.next_index == count if is_closed else writer.next_index <= count
                feed(writer, entries)
                writer.finish()
                assert_table(path, entries)

    def test_an_end_while_the_parts_are_put_together_or_removed_loses_nothing(self, tmp_path: Path) -> None:
        entries = [result(index) for index in range(7)]
        path, parts, done = (tmp_path / f"a.parquet{end}" for end in ("", ".parts", ".parts-done"))
        feed(writer := opened(path), entries)
        writer.close()
        shutil.copytree(parts, tmp_path / "kept")
        writer.finish()

        # Put together, and the parts still there
        shutil.copytree(tmp_path / "kept", parts)
        assert opened(path, resume=True).next_index == 7
        # Some of the parts removed already
        parts.rename(done)
        next(done.iterdir()).unlink()
        (tmp_path / "a.parquet.tmp").write_bytes(b"torn")
        writer = opened(path, resume=True)
        assert writer.next_index == 7
        writer.finish()

        assert_table(path, entries)

    def test_a_finished_file_is_continued(self, tmp_path: Path) -> None:
        entries = [result(index) for index in range(7)]
        path = tmp_path / "a.parquet"
        feed(writer := opened(path), entries[:5])
        writer.finish()

        writer = opened(path, resume=True)
        assert writer.next_index == 5
        feed(writer, entries)
        writer.finish()

        assert_table(path, entries)

    def test_what_was_there_is_not_taken_for_results_when_a_new_ingest_is_interrupted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        feed(writer := opened(path), [result(index) for index in range(5)])
        writer.finish()

        opened(path)

        assert opened(path, resume=True).next_index == 0

    def test_sparse_and_multi_vectors_have_columns(self, tmp_path: Path) -> None:
        sparse, tokens = {"indices": [3, 9], "values": [0.5, 1.5]}, [[1.0, 2.0], [3.0, 4.0]]
        entries = [result(0) | {"sparse": sparse, "multivector": tokens}, result(1, failed=True)]
        path = tmp_path / "a.parquet"

        feed(writer := opened(path, kinds=["dense", "sparse", "multivector"]), entries)
        writer.finish()

        rows = pq.read_table(path).to_pylist()
        assert rows[0]["sparse"] == sparse
        assert rows[0]["multivector"] == tokens
        assert rows[0]["embedding"] == [0, 1, 2, 3]
        assert rows[1]["sparse"] is rows[1]["multivector"] is rows[1]["embedding"] is None


@pytest.mark.parametrize(
    ("name", "kinds", "sentence"),
    [
        ("a.csv", ["dense"], "must end in .ndjson, .jsonl, .npy or .parquet"),
        ("a.npy", ["dense", "sparse"], "dense vectors only"),
        ("none/a.npy", ["dense"], "there is no folder"),
        ("there.ndjson", ["dense"], "--overwrite"),
    ],
)
def test_an_output_that_cannot_be_is_refused_at_once(
    tmp_path: Path, name: str, kinds: list[str], sentence: str
) -> None:
    (tmp_path / "there.ndjson").touch()

    with pytest.raises(InputProblem, match=sentence):
        check_output(tmp_path / name, kinds=kinds, overwrite=False)
