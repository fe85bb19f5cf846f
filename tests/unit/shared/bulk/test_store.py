"""The store: files appear whole or not at all, and what is wrong with it is said in a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.bulk.store import Store, input_path
from shared.errors import NotStored, StorageFull, StorageUnavailable


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "new" / "store"))
    path = input_path("job_1", 1234, "abcdefgh")
    store.write(path, b"one\n")
    assert store.read(path) == b"one\n"
    store.write(path, b"two\n")
    assert b"".join(store.blocks(path)) == b"two\n"
    assert [entry.name for entry in (tmp_path / "new" / "store").rglob("*") if entry.is_file()] == [
        "00001234-abcdefgh.ndjson"
    ]


def test_a_large_file_is_read_in_blocks(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    data = os.urandom(3 << 20)
    with store.writer("files/one") as file:
        for start in range(0, len(data), 1000):
            file.write(data[start : start + 1000])
    blocks = list(store.blocks("files/one"))
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 1 << 20


def test_a_file_whose_writing_fails_is_not_there(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("files/one", b"before")
    with pytest.raises(TypeError), store.writer("files/one") as file:
        file.writelines([b"after", None])  # type: ignore[list-item]
    assert store.read("files/one") == b"before"
    assert [entry.name for entry in (tmp_path / "files").iterdir()] == ["one"]


def test_what_has_its_name_is_on_the_disk_and_so_is_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No test pulls a plug: what was synced, and in which state the folder was then
    synced: list[tuple[str, list[str]]] = []
    folder = tmp_path / "files"

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.suffix or path.name, sorted(entry.suffix or entry.name for entry in folder.iterdir())))

    monkeypatch.setattr(os, "fsync", note)
    Store(str(tmp_path)).write("files/one", b"x" * 100_000)
    assert synced == [(".part", [".part"]), ("files", ["one"])]


def test_what_is_not_there_is_named_without_the_folder(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(NotStored, match="nothing-here is not in the store"):
        store.read("files/nothing-here")
    with pytest.raises(NotStored):
        list(store.blocks("files/nothing-here"))
    store.remove("files/nothing-here")


def test_a_folder_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in range(3):
        store.write(input_path("job_1", number, "abcdefgh"), b"x")
    store.remove("jobs/job_1")
    assert not list((tmp_path / "jobs").iterdir())


def test_a_full_disk_is_called_so(tmp_path: Path) -> None:
    # A file size limit answers a write as a full disk does, and needs no disk to be filled.
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from shared.bulk.store import Store
from shared.errors import StorageFull
try:
    Store({str(tmp_path)!r}).write("files/one", b"x" * 5000)
except StorageFull as err:
    print(err.message)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == StorageFull().message
    assert [entry.name for entry in (tmp_path / "files").iterdir()] == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = Store(str(tmp_path / "file" / "store"))
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        store.write("files/one", b"x")


def test_a_kind_of_store_that_is_not_installed_is_named() -> None:
    with pytest.raises(StorageUnavailable, match="nosuch"):
        Store("nosuch://bucket/prefix")


def test_object_stores_work_the_same_way() -> None:
    # fsspec's own store in memory has the semantics of an object store: no folders, whole objects.
    store = Store("memory://bucket/prefix")
    store.write("jobs/job_1/output/00000/00000001", b"rows")
    assert store.read("jobs/job_1/output/00000/00000001") == b"rows"
    store.remove("jobs/job_1")
    with pytest.raises(NotStored):
        store.read("jobs/job_1/output/00000/00000001")
