"""`millrace ingest` against the real service: what a person types, and what lies on the disk afterwards."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow.parquet as pq
import pytest

from millrace.ingest.documents import Reading
from millrace.ingest.readers import Corpus
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent
#: Small, so that a job of some hundred documents has many.
SEGMENT_DOCUMENTS = 16


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"MILLRACE_JOB_SEGMENT_DOCUMENTS": str(SEGMENT_DOCUMENTS)}
    service = Service(tmp_path_factory.mktemp("service"), settings)
    service.start()
    yield service
    service.stop()


class Command:
    """One `millrace ingest` as a process."""

    def __init__(self, *arguments: object, stdin: int | None = None) -> None:
        words = [sys.executable, "-m", "millrace.cli", "ingest", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=stdin, stdout=pipe, stderr=pipe, env=environment, text=True)
        self.status = -1
        self.printed = self.said = ""

    def end(self, timeout_s: float = 120.0) -> "Command":
        try:
            self.printed, self.said = self.process.communicate(timeout=timeout_s)
        finally:
            self.process.kill()
        self.status = self.process.returncode
        assert "Traceback" not in self.said
        return self

    def interrupt(self, number: int = signal.SIGINT) -> "Command":
        assert self.process.poll() is None, "it has ended by itself"
        self.process.send_signal(number)
        return self.end()

    def resume_command(self) -> list[str]:
        found = re.search(r"^  millrace ingest (--resume .*)$", self.said, re.MULTILINE)
        assert found, self.said
        return shlex.split(found[1])


def ingest(*arguments: object, status: int = 0) -> Command:
    command = Command(*arguments).end()
    assert command.status == status, command.said
    return command


def newest_job(service: Service) -> dict[str, Any]:
    with service.client() as client:
        jobs: list[dict[str, Any]] = client.get("/v1/jobs?limit=1").raise_for_status().json()["data"]
    return jobs[0] if jobs else {"available": 0, "counts": {"received": 0}}


def synchronous(service: Service, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    with service.client() as client:
        batches = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        answers = [client.post("/embed", json={"inputs": list(batch)}).raise_for_status().json() for batch in batches]
    return np.array([vector for answer in answers for vector in answer], np.float32)


def result_of(output: Path) -> tuple[list[Any], npt.NDArray[np.float32]]:
    """Ids and vectors of any output."""
    match output.suffix:
        case ".ndjson":
            lines = [orjson.loads(line) for line in output.read_bytes().splitlines()]
            return [line["id"] for line in lines], np.array([line["embedding"] for line in lines], np.float32)
        case ".npy":
            lines = [orjson.loads(line) for line in output.with_suffix(".ids.ndjson").read_bytes().splitlines()]
            return [line["id"] for line in lines], np.load(output)
        case _:
            table = pq.read_table(output)
            return table["id"].to_pylist(), np.stack(table["embedding"].to_numpy())


def texts_of(count: int) -> list[str]:
    return [f"Mill {number} grinds {'wheat and ' * (number % 7)}rye." for number in range(count)]


def written(folder: Path, texts: Sequence[str], name: str = "corpus.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(orjson.dumps({"id": f"d{n}", "text": text}) + b"\n" for n, text in enumerate(texts)))
    return path


def test_a_folder_becomes_the_vectors_of_the_synchronous_route(service: Service, tmp_path: Path) -> None:
    documents = [orjson.loads(line) for line in Corpus([str(DOCS)], Reading(chunk_chars=600)).documents()]
    lines, matrix, table = (tmp_path / f"docs.{suffix}" for suffix in ("ndjson", "npy", "parquet"))

    command = ingest(DOCS, "--chunk-chars", 600, "-o", lines, "--keep-job", "--url", service.url)
    job = newest_job(service)["id"]
    ingest("--resume", job, "-o", matrix, "--keep-job", "--url", service.url)
    ingest("--resume", job, "-o", table, "--url", service.url)

    expected = synchronous(service, [document["text"] for document in documents])
    assert f"{len(documents):,} documents" in command.said
    for output in (lines, matrix, table):
        ids, vectors = result_of(output)
        assert ids == [document["id"] for document in documents]
        assert ids[0].endswith(".md#0")
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    with service.client() as client:
        gone = client.get(f"/v1/jobs/{job}")
    assert gone.status_code == 404, "when its results are written and nothing was said, the job is deleted"


@pytest.mark.parametrize("suffix", [".ndjson", ".npy", ".parquet"])
def test_after_ctrl_c_amid_the_results_the_printed_command_completes_them(
    service: Service, tmp_path: Path, suffix: str
) -> None:
    # Given an ingest of which some results are written
    texts, output = texts_of(240), tmp_path / f"out{suffix}"
    command = Command(written(tmp_path, texts), "-o", output, "--url", service.url)
    wait_until(lambda: newest_job(service)["available"] >= 2 * SEGMENT_DOCUMENTS, timeout_s=60)

    # When it is interrupted, and continued as it says
    command.interrupt()
    ids_before = newest_job(service)["id"]
    resumed = ingest(*command.resume_command())

    # Then every document is there once
    assert command.status == 130
    assert command.said.startswith("Interrupted.\n")
    assert ids_before in command.said
    ids, vectors = result_of(output)
    assert ids == [f"d{number}" for number in range(len(texts))]
    np.testing.assert_allclose(vectors, synchronous(service, texts), atol=1e-5)
    assert "240 documents" in resumed.said


@pytest.mark.parametrize("suffix", [".ndjson", ".npy", ".parquet"])
def test_a_killed_ingest_can_be_continued_too(service: Service, tmp_path: Path, suffix: str) -> None:
    texts, output = texts_of(160), tmp_path / f"out{suffix}"
    corpus = written(tmp_path, texts)
    command = Command(corpus, "-o", output, "--url", service.url)
    wait_until(lambda: newest_job(service)["available"] >= 2 * SEGMENT_DOCUMENTS, timeout_s=60)

    command.interrupt(signal.SIGKILL)
    assert output.with_name(f"{output.name}.job").exists()
    ingest("--resume", newest_job(service)["id"], corpus, "-o", output, "--url", service.url)

    ids, vectors = result_of(output)
    assert ids == [f"d{number}" for number in range(len(texts))]
    np.testing.assert_allclose(vectors, synchronous(service, texts), atol=1e-5)


def test_a_gateway_that_dies_amid_the_results_is_waited_for(service: Service, tmp_path: Path) -> None:
    texts, output = texts_of(240), tmp_path / "out.npy"
    command = Command(written(tmp_path, texts), "-o", output, "--url", service.url)
    wait_until(lambda: newest_job(service)["available"] >= SEGMENT_DOCUMENTS, timeout_s=60)

    service.part("api").kill()

    assert command.end().status == 0, command.said
    ids, vectors = result_of(output)
    assert ids == [f"d{number}" for number in range(len(texts))]
    np.testing.assert_allclose(vectors, synchronous(service, texts), atol=1e-5)


def test_a_corpus_that_breaks_off_is_mended_and_continued(service: Service, tmp_path: Path) -> None:
    # Given a table whose second part has a fault
    rows = [f'{number},"Mill {number}",{"x" * 100_000}\n' for number in range(60)]
    corpus, output = tmp_path / "corpus.csv", tmp_path / "out.npy"
    columns = ["--metadata-fields", "padding"]
    corpus.write_text("id,text,padding\n" + "".join([*rows[:50], '50,"Mill" 50,x\n', *rows[51:]]))

    # When it is sent, mended and sent again
    broken = ingest(corpus, *columns, "-o", output, "--url", service.url, status=2)
    corpus.write_text("id,text,padding\n" + "".join(rows))
    ingest(*broken.resume_command())

    # Then every row is there once
    assert f"{corpus} is not CSV after line 51" in broken.said
    ids, vectors = result_of(output)
    assert ids == [str(number) for number in range(60)]
    np.testing.assert_allclose(vectors, synchronous(service, [f"Mill {number}" for number in range(60)]), atol=1e-5)


def test_after_ctrl_c_amid_the_upload_the_printed_command_completes_it(service: Service, tmp_path: Path) -> None:
    # Given a corpus of more than two parts, of which a pipe gives the first half only
    texts = texts_of(100)
    lines = [
        orjson.dumps({"id": number, "text": text, "metadata": "x" * 100_000}) + b"\n"
        for number, text in enumerate(texts)
    ]
    corpus, output = tmp_path / "corpus.jsonl", tmp_path / "out.npy"
    os.mkfifo(corpus)
    command = Command(corpus, "-o", output, "--url", service.url)
    is_over = threading.Event()

    def feed() -> None:
        # Who reads may be gone before all is read.
        with suppress(BrokenPipeError), corpus.open("wb") as pipe:
            pipe.write(b"".join(lines[:50]))
            pipe.flush()
            is_over.wait(60)

    feeding = threading.Thread(target=feed)
    feeding.start()
    wait_until(lambda: newest_job(service)["counts"]["received"] > 0, timeout_s=60)

    # When it is interrupted, and continued with the whole file
    command.interrupt()
    is_over.set()
    feeding.join()
    job = newest_job(service)
    corpus.unlink()
    corpus.write_bytes(b"".join(lines))
    ingest(*command.resume_command())

    # Then every document is there once
    assert command.status == 130
    assert job["status"] == "receiving"
    assert 0 < job["counts"]["received"] < 100
    ids, vectors = result_of(output)
    assert ids == list(range(100))
    np.testing.assert_allclose(vectors, synchronous(service, texts), atol=1e-5)


def test_ctrl_c_can_cancel_the_job_and_resuming_brings_it_back(service: Service, tmp_path: Path) -> None:
    texts, output = texts_of(160), tmp_path / "out.npy"
    command = Command(written(tmp_path, texts), "-o", output, "--cancel-on-interrupt", "--url", service.url)
    wait_until(lambda: newest_job(service)["available"] >= SEGMENT_DOCUMENTS, timeout_s=60)

    command.interrupt()
    wait_until(lambda: newest_job(service)["status"] == "cancelled", timeout_s=30)
    ingest(*command.resume_command())

    assert f"Job {command.resume_command()[1]} is cancelled." in command.said
    assert result_of(output)[0] == [f"d{number}" for number in range(len(texts))]


def test_without_waiting_the_id_is_printed_and_gets_the_results_later(service: Service, tmp_path: Path) -> None:
    texts = texts_of(40)

    sent = ingest(written(tmp_path, texts), "--no-wait", "--url", service.url)
    fetched = ingest("--resume", sent.printed.strip(), "-o", tmp_path / "a.ndjson", "--keep-job", "--url", service.url)
    again = ingest("--resume", sent.printed.strip(), "-o", tmp_path / "b.parquet", "--url", service.url)

    assert re.fullmatch(r"job_\w+\n", sent.printed)
    assert fetched.printed == again.printed == ""
    assert result_of(tmp_path / "a.ndjson")[0] == result_of(tmp_path / "b.parquet")[0]
    np.testing.assert_allclose(result_of(tmp_path / "b.parquet")[1], synchronous(service, texts), atol=1e-5)


def test_a_table_on_standard_input_in_another_number_format(service: Service, tmp_path: Path) -> None:
    read, write = os.pipe()
    command = Command(
        *("-", "--format", "csv", "--text-field", "body", "--metadata-fields", "lang", "--precision", "int8"),
        *("-o", tmp_path / "out.npy", "--url", service.url),
        stdin=read,
    )
    with os.fdopen(write, "w") as pipe:
        pipe.write("id,body,lang\n7,Water mills.,en\n8,Windmühlen.,de\n")
    os.close(read)

    assert command.end().status == 0, command.said

    ids, vectors = result_of(tmp_path / "out.npy")
    assert ids == ["7", "8"]
    assert vectors.dtype == np.int8
    first = orjson.loads((tmp_path / "out.ids.ndjson").read_bytes().splitlines()[0])
    assert first == {"index": 0, "id": "7", "metadata": {"lang": "en"}}


def test_documents_that_fail_do_not_fail_the_others(service: Service, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id":"a","text":"good"}\n{"id":"b","text":""}\nnot json\n{"id":"d","text":"good"}\n')

    command = ingest(corpus, "-o", tmp_path / "out.npy", "--url", service.url, status=3)

    vectors = np.load(tmp_path / "out.npy")
    lines = [orjson.loads(line) for line in (tmp_path / "out.ids.ndjson").read_bytes().splitlines()]
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False]
    assert ["error" in line for line in lines] == [False, True, True, False]
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-6)
    assert "2 of them have an error" in command.said


def test_another_corpus_than_that_of_the_job_is_refused(service: Service, tmp_path: Path) -> None:
    job = newest_unfinished(service)

    wrong_file = ingest("--resume", job, written(tmp_path, ["x"], "other.jsonl"), "--url", service.url, status=2)
    wrong_option = ingest("--resume", job, "--text-field", "body", "x.jsonl", "--url", service.url, status=2)
    short = ingest("--resume", job, written(tmp_path, ["x"], "corpus.jsonl"), "--url", service.url, status=2)

    assert "of other names" in wrong_file.said
    assert "was begun without --text-field" in wrong_option.said
    assert "hold 1 documents, and the job has 3" in short.said


@pytest.mark.parametrize("suffix", [".ndjson", ".npy", ".parquet"])
def test_the_output_of_another_job_is_not_continued(service: Service, tmp_path: Path, suffix: str) -> None:
    # Given an output that is not complete, one that is, and another job
    output, complete = tmp_path / f"out{suffix}", tmp_path / f"complete{suffix}"
    unfinished = Command(written(tmp_path, texts_of(240)), "-o", output, "--url", service.url)
    wait_until(lambda: newest_job(service)["available"] >= 2 * SEGMENT_DOCUMENTS, timeout_s=60)
    unfinished.interrupt()
    ingest(written(tmp_path, ["one", "two"]), "-o", complete, "--url", service.url)
    other = ingest(written(tmp_path, texts_of(40)), "--no-wait", "--url", service.url).printed.strip()
    held = complete.read_bytes()

    # When
    mixed = ingest("--resume", other, "-o", output, "--url", service.url, status=2)
    replaced = ingest("--resume", other, "-o", complete, "--url", service.url, status=2)

    # Then it says so, and nothing was touched
    assert f"holds results of {unfinished.resume_command()[1]}; replace it with --overwrite" in mixed.said
    assert f"is no unfinished output of {other}; replace it with --overwrite" in replaced.said
    assert complete.read_bytes() == held
    ingest(*unfinished.resume_command())
    assert len(result_of(output)[0]) == 240
    assert not output.with_name(f"{output.name}.job").exists()

    # When it may be replaced
    ingest("--resume", other, "-o", output, "--overwrite", "--url", service.url)

    # Then it holds that job's results alone
    ids, vectors = result_of(output)
    assert ids == [f"d{number}" for number in range(40)]
    np.testing.assert_allclose(vectors, synchronous(service, texts_of(40)), atol=1e-5)


def test_an_upload_is_not_continued_with_other_documents(service: Service, tmp_path: Path) -> None:
    # Given a table of which the first part was sent
    rows = [f'{number},"Mill {number}",{"x" * 100_000}\n' for number in range(60)]
    corpus, output = tmp_path / "corpus.csv", tmp_path / "out.npy"
    corpus.write_text("id,text,padding\n" + "".join([*rows[:50], '50,"Mill" 50,x\n']))
    broken = ingest(corpus, "--metadata-fields", "padding", "-o", output, "--url", service.url, status=2)

    # When one of those documents is another, then the same again
    corpus.write_text("id,text,padding\n" + "".join([rows[0].replace("Mill", "Mile"), *rows[1:]]))
    refused = ingest(*broken.resume_command(), status=2)
    corpus.write_text("id,text,padding\n" + "".join(rows))
    ingest(*broken.resume_command())

    # Then
    assert "the files have changed: their first " in refused.said
    assert result_of(output)[0] == [str(number) for number in range(60)]


def test_options_of_a_job_cannot_be_changed_when_it_is_resumed(service: Service, tmp_path: Path) -> None:
    corpus = written(tmp_path, ["one", "two"])
    job = ingest(corpus, "--dimensions", 8, "--no-wait", "--url", service.url).printed.strip()
    foreign = newest_unfinished(service)

    other = ingest("--resume", job, "--dimensions", 3, "-o", tmp_path / "a.npy", "--url", service.url, status=2)
    more = ingest("--resume", job, "--priority", 3, "-o", tmp_path / "a.npy", "--url", service.url, status=2)
    webhook = ingest("--resume", job, "--webhook", "https://a.example", "--url", service.url, status=2)
    unknown = ingest("--resume", foreign, corpus, "--dimensions", 3, "--url", service.url, status=2)
    ingest("--resume", job, "--dimensions", 8, "-o", tmp_path / "a.npy", "--url", service.url)

    assert "the job was begun with --dimensions 8; leave --dimensions out to resume it" in other.said
    assert "the job was begun without --priority" in more.said
    assert "--webhook is for new jobs" in webhook.said
    assert "the job was begun without --dimensions" in unknown.said
    assert np.load(tmp_path / "a.npy").shape == (2, 8)


def test_files_without_text_are_told_at_the_end(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a.txt": "A mill.", "b.txt": "", "c.md": " \n"}.items():
        (folder / name).write_text(text)

    command = ingest(folder, "-o", tmp_path / "out.npy", "--url", service.url)

    assert f"2 files without any text left out: {folder / 'b.txt'}, {folder / 'c.md'}" in command.said


def test_the_example_of_the_documentation_prints_what_it_says(service: Service, tmp_path: Path) -> None:
    # Given the page's commands and its script
    page = (DOCS / "bulk.md").read_text().split("## A corpus, end to end")[1].split("### Ctrl-C")[0]
    consoles = re.findall(r"```console\n(.+?)\n```", page, re.DOTALL)
    (script,) = re.findall(r"```python\n(.+?)\n```", page, re.DOTALL)
    (tmp_path / "search.py").write_text(script.replace("http://127.0.0.1:8080", service.url))
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text())
    commands = {"millrace": f"{sys.executable} -m millrace.cli", "python": sys.executable, "head": "head"}

    # When they are typed
    said = []
    for words in re.findall(r"^\$ (\w+) (.+)$", "\n".join(consoles), re.MULTILINE):
        url = f" --url {service.url}" if words[0] == "millrace" else ""
        typed = f"{commands[words[0]]} {words[1]}{url}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            typed, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        said += [*ended.stdout.splitlines(), *ended.stderr.splitlines()[-1:]]

    # Then they say what the page says; its bars are a terminal's, and the time is this machine's
    shown = [line for line in "\n".join(consoles).splitlines() if not line.startswith("$") and "\u2501" not in line]
    assert [_without_times(line) for line in said] == [_without_times(line) for line in shown]


def _without_times(line: str) -> str:
    """Without seconds, and scores to two decimals: the last digits differ between processors."""
    return re.sub(r"in \d+ s", "in N s", re.sub(r"\d\.\d{3}", lambda found: f"{float(found.group()):.2f}", line))


def newest_unfinished(service: Service) -> str:
    """A job whose upload was begun as the command does, and not ended."""
    from millrace.ingest.plan import Plan

    with service.client() as client:
        metadata = Plan().for_files(["corpus.jsonl"]).as_metadata()
        job: str = client.post("/v1/jobs", json={"metadata": metadata}).raise_for_status().json()["id"]
        body = b'{"text":"one"}\n' * 3
        client.post(f"/v1/jobs/{job}/documents?offset=0&more=true", content=body).raise_for_status()
    return job


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (
            ["good.jsonl", "--url", "http://127.0.0.1:9"],
            1,
            "no gateway answers at http://127.0.0.1:9: connection refused",
        ),
        (["good.jsonl", "--url", "localhost"], 2, "--url 'localhost' must begin with http:// or https://"),
        (["good.jsonl", "--model", "nope"], 1, "model 'nope' is not served here"),
        (["good.jsonl", "--dimensions", "999"], 1, "has 384 dimensions, not 999"),
        (["good.jsonl", "--kinds", "dense,thick"], 1, "kinds"),
        (["good.jsonl", "-o", "none/out.npy"], 2, "there is no folder none"),
        (["good.jsonl", "-o", "out.csv"], 2, "must end in .ndjson"),
        (["good.jsonl", "-o", "good.jsonl"], 2, "good.jsonl is there already"),
        (["good.jsonl", "-o", "out.npy", "--no-wait"], 2, "--no-wait writes no output"),
        (["missing.csv"], 2, "there is no file missing.csv"),
        (["bad.csv"], 2, "bad.csv has no column 'text', only 'id', 'body'; choose with --text-field"),
        (["bad.csv", "--text-field", "body", "--id-field", "key"], 2, "bad.csv has no column 'key'"),
        (["good.jsonl", "--id-field", "key"], 2, "no line of good.jsonl has the field 'key', only 'id', 'text'"),
        (["empty.jsonl"], 2, "there are no documents in empty.jsonl"),
        ([], 2, "there is no FILE to read"),
        (["--resume", "some/folder"], 2, "'some/folder' is not the id of a job"),
        (["--resume", "job_none"], 1, "no job 'job_none' is here"),
        (["good.jsonl", "--chunk-chars", "0"], 2, "'0' is not a whole number above 0"),
        (["good.jsonl", "--webhook", "http://127.0.0.1:1/x"], 1, "a webhook's URL is https://"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, ["one"], "good.jsonl")
    (tmp_path / "bad.csv").write_text("id,body\n1,one\n")
    (tmp_path / "empty.jsonl").touch()
    url = [] if "--url" in arguments else ["--url", service.url]

    command = ingest(*arguments, *url, status=status)

    assert sentence in command.said.splitlines()[-1]
    assert command.printed == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "empty.jsonl", "good.jsonl"]
