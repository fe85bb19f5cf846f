"""Files become documents, one line of JSON each."""

import csv
import gzip
import io
import itertools
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.ingest.documents import Columns, Reading
from millrace.ingest.problems import InputProblem
from millrace.ingest.read_text import chunks
from millrace.ingest.readers import Corpus

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def read(*paths: Path | str, columns: Columns | None = None, **options: Any) -> list[dict[str, Any]]:
    file_format = options.pop("file_format", None)
    corpus = Corpus([str(path) for path in paths], Reading(columns or Columns(), **options), file_format=file_format)
    return [orjson.loads(line) for line in corpus.documents()]


def problem(*paths: Path | str, columns: Columns | None = None, **options: Any) -> str:
    with pytest.raises(InputProblem) as caught:
        read(*paths, columns=columns, **options)
    return str(caught.value)


def standard_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


class TestNdjson:
    def test_lines_with_the_services_fields_are_sent_as_they_are(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_bytes(
            b'\xef\xbb\xbf{"id": 7, "text":"one"}\r\n\n  \n{"text":"two","metadata":[1]}\nnot json\n{"text":"end"}'
        )

        lines = list(Corpus([str(file)], Reading()).documents())

        assert lines == [b'{"id": 7, "text":"one"}', b'{"text":"two","metadata":[1]}', b"not json", b'{"text":"end"}']

    def test_other_fields_can_be_chosen(self, tmp_path: Path) -> None:
        file = tmp_path / "a.ndjson.gz"
        file.write_bytes(
            gzip.compress(b'{"key":1,"body":"one","lang":"de","x":0}\n{"body":"two","text":"no"}\n', mtime=0)
        )

        documents = read(file, columns=Columns("body", "key", ("lang",)))

        assert documents == [
            {"id": 1, "text": "one", "metadata": {"lang": "de"}},
            {"text": "two", "metadata": {"lang": None}},
        ]

    def test_a_field_that_is_nowhere_is_named_with_those_that_are_there(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_bytes(b'{"title":"a","body":"b"}\n' * 3)

        sentence = problem(file)

        assert sentence == f"no line of {file} has the field 'text', only 'title', 'body'; choose with --text-field"

    def test_what_is_not_ndjson_is_said_so(self, tmp_path: Path) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text("id,text\n1,one\n")

        assert "is not NDJSON" in problem(file)

    def test_standard_input_is_ndjson(self, monkeypatch: pytest.MonkeyPatch) -> None:
        standard_input(b'{"text":"one"}\n{"text":"two"}\n', monkeypatch)

        assert [document["text"] for document in read("-")] == ["one", "two"]

    @given(st.lists(st.fixed_dictionaries({"id": TEXT, "text": TEXT})))
    def test_whatever_is_written_is_read(self, tmp_path_factory: pytest.TempPathFactory, documents: list[Any]) -> None:
        file = tmp_path_factory.mktemp("ndjson") / "a.ndjson"
        file.write_bytes(b"".join(orjson.dumps(document) + b"\n" for document in documents))

        assert read(file) == documents


class TestTables:
    def test_columns_of_csv(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text('\ufeffid,text,lang\n1,"one, with\na second line",de\n2,two,en\n', encoding="utf-8")

        assert read(file) == [{"id": "1", "text": "one, with\na second line"}, {"id": "2", "text": "two"}]
        assert read(file, columns=Columns("lang", "text", ("id",)))[1] == {
            "id": "two",
            "text": "en",
            "metadata": {"id": "2"},
        }

    @pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
    @given(rows=st.lists(st.tuples(TEXT, TEXT)))
    def test_whatever_is_written_as_csv_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, name: str, rows: list[tuple[str, str]]
    ) -> None:
        path = tmp_path_factory.mktemp("table") / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if name.endswith("tsv") else ",")
            writer.writerows([("id", "text"), *rows])

        assert [(row["id"], row["text"]) for row in read(path)] == rows

    def test_a_row_that_is_too_short_is_a_document_without_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("id,text\n1\n")

        assert read(tmp_path / "a.csv") == [{"id": "1", "text": None}]

    def test_a_text_that_a_comma_cuts_in_two_is_not_taken_for_its_beginning(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text('id,text\n1,"one, two"\n2,three, four\n')

        assert problem(file) == (
            f"{file} has 2 columns in its header and 3 in line 3; a text with a comma needs quotes"
        )

    def test_a_missing_column_is_named_with_those_that_are_there(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text("name,body\n1,one\n")

        assert problem(file) == f"{file} has no column 'text', only 'name', 'body'; choose with --text-field"
        assert "'key', only" in problem(file, columns=Columns("body", "key"))
        assert "--metadata-fields" in problem(file, columns=Columns("body", None, ("lang",)))

    def test_broken_csv_names_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text('id,text\n1,"one"x\n')

        assert problem(file).startswith(f"{file} is not CSV after line 1: ")

    def test_another_encoding(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_text("text\nMühle\n", encoding="latin-1")

        assert "--encoding" in problem(file)
        assert read(file, encoding="latin-1") == [{"text": "Mühle"}]

    def test_columns_of_parquet(self, tmp_path: Path) -> None:
        file = tmp_path / "a.parquet"
        table = {"id": [1, 2], "body": ["one", None], "when": pa.array([0, 1], pa.timestamp("s")), "x": [0.5, 1.0]}
        pq.write_table(pa.table(table), file)

        documents = read(file, columns=Columns("body", None, ("when", "x")))

        assert documents[0] == {"id": 1, "text": "one", "metadata": {"when": "1970-01-01T00:00:00", "x": 0.5}}
        assert documents[1]["text"] is None
        assert "has no column 'text'" in problem(file)
        assert (
            problem(file, columns=Columns("x"))
            == f"column 'x' of {file} holds double, not text; choose with --text-field"
        )

    @settings(deadline=None)
    @given(st.lists(st.tuples(TEXT, TEXT)))
    def test_whatever_is_written_as_parquet_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
    ) -> None:
        file = tmp_path_factory.mktemp("parquet") / "a.parquet"
        columns = {
            name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(("id", "text"))
        }
        pq.write_table(pa.table(columns), file, row_group_size=3)

        assert [(row["id"], row["text"]) for row in read(file)] == rows

    def test_what_is_no_parquet_is_said_so(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_text("no parquet, but long enough to be taken for one")

        assert "cannot be read as Parquet" in problem(tmp_path / "a.parquet")

    def test_a_missing_pyarrow_is_named_with_its_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.parquet").touch()
        monkeypatch.setitem(sys.modules, "pyarrow", None)

        assert "Parquet needs pyarrow, which comes with the extra millrace[ingest]" in problem(tmp_path / "a.parquet")


class TestText:
    def test_a_folder_gives_a_document_per_text_file_in_the_order_of_paths(self, tmp_path: Path) -> None:
        for name, content in {
            "b.md": "# Bee",
            "a/z.txt": "Zed",
            "a/blank.txt": " \n",
            "a/image.png": "x",
            ".git/hidden.md": "x",
        }.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)

        assert read(tmp_path) == [{"id": "a/z.txt", "text": "Zed"}, {"id": "b.md", "text": "# Bee"}]
        assert [document["id"] for document in read(tmp_path, tmp_path / "b.md")] == [
            f"{tmp_path.name}/a/z.txt",
            f"{tmp_path.name}/b.md",
            f"{tmp_path}/b.md",
        ]

    def test_pieces_are_numbered(self, tmp_path: Path) -> None:
        (tmp_path / "a.md").write_text("# Mills\n\nWater.\n\nWind.\n\n## Races\n\nA mill race carries water.\n")

        pieces = read(tmp_path, chunk_chars=40)

        assert pieces == [
            {"id": "a.md#0", "text": "# Mills\n\nWater.\n\nWind."},
            {"id": "a.md#1", "text": "## Races\n\nA mill race carries water."},
        ]

    def test_a_folder_without_text_is_said_so(self, tmp_path: Path) -> None:
        assert "holds no text files" in problem(tmp_path)

    def test_long_paragraphs_are_cut_behind_sentences_then_between_words(self) -> None:
        assert list(chunks(["One two three. Four five six seven."], 24)) == ["One two three.", "Four five six seven."]
        assert list(chunks(["one two three four five"], 10)) == ["one two", "three four", "five"]
        assert list(chunks(["x" * 25], 10)) == ["x" * 10, "x" * 10, "x" * 5]

    @given(st.text("ab.#\n \t", max_size=200), st.integers(1, 30), st.lists(st.integers(0, 200), max_size=6))
    def test_pieces_are_short_and_hold_all_words_however_the_text_is_read(
        self, text: str, limit: int, cuts: list[int]
    ) -> None:
        ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
        blocks = [text[start:end] for start, end in itertools.pairwise(ends)]

        pieces = list(chunks(blocks, limit))

        assert all(piece.strip() and len(piece) <= limit for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert [piece.split() for piece in pieces] == [piece.split() for piece in chunks([text], limit)]


class TestCorpus:
    def test_it_goes_on_where_it_is_told_across_files(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"text":"{name}{number}"}}\n' for number in range(3)))
        corpus = Corpus([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")], Reading())

        for start in range(7):
            left = [orjson.loads(line)["text"] for line in corpus.documents(start)]
            assert left == ["a0", "a1", "a2", "b0", "b1", "b2"][start:]
        with pytest.raises(InputProblem, match="hold 6 documents, and the job has 7"):
            corpus.documents(7)

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("missing.csv", None, "there is no file"),
            ("a.xyz", b"x", "say it with --format"),
            ("a.csv.gz", b"no gzip", "cannot be read: Not a gzipped file"),
            ("a.jsonl.gz", gzip.compress(b'{"text":"one"}\n' * 99, mtime=0)[:-9], "cut short or damaged"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_named(
        self, tmp_path: Path, name: str, content: bytes | None, sentence: str
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)

        said = problem(tmp_path / name)

        assert sentence in said
        assert name in said

    def test_all_files_are_looked_at_before_the_first_is_sent(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("text\none\n")
        (tmp_path / "b.csv").write_text("body\ntwo\n")

        with pytest.raises(InputProblem, match=r"b\.csv has no column 'text'"):
            Corpus([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], Reading()).check()

    @pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.md"])
    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path, name: str) -> None:
        line = {"a.jsonl": '{"text":"%s"}\n', "a.csv": "%s\n", "a.md": "%s\n\n"}[name] % ("water " * 50)
        with (tmp_path / name).open("w") as file:
            file.write("text\n" if name == "a.csv" else "")
            for _ in range(30_000):  # 9 MB
                file.write(line)
        corpus = Corpus([str(tmp_path / name)], Reading(chunk_chars=400))

        tracemalloc.start()
        count = sum(1 for _ in corpus.documents())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert count == 30_000
        assert peak < 2e6
