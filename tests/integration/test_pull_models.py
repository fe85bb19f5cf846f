"""`millrace models pull` and `verify`: from a hub, a folder and an object store, whole or not at all."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from millrace.cli import main
from millrace.mirror.pull import partial_folder
from millrace.mirror.store_source import StoreSource
from shared.model_config import ConfigurationError, ModelConfig
from tests.helpers.hub import Hub, Repository, running_hub
from tests.helpers.through_engine import Served
from tests.helpers.tiny_models import embedding_model
from workers.weights import local_folder

MANIFEST = "millrace-manifest.json"

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "1_Pooling/config.json": b"{}",
    # Many repositories have their small modules in no other form.
    "2_Dense/pytorch_model.bin": b"tensors",
    "LICENSE": b"Apache-2.0",
    # Stanford's ColBERT says there how long its queries and documents are.
    "artifact.metadata": b"{}",
}
#: What nobody needs, or must not have.
OTHERS = {
    "pytorch_model.bin": b"a pickle",
    "0_Transformer/pytorch_model.bin": b"a pickle",
    "modeling_custom.py": b"import os",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    ".gitattributes": b"",
    "README.md": b"# A model",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one model."""
    with running_hub() as running:
        running.repositories["org/model"] = Repository({**FILES, **OTHERS})
        yield running


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's mirror, with the commit in its manifest."""
    folder = tmp_path_factory.mktemp("mirrors") / "first"
    with running_hub() as running:
        running.repositories["org/model"] = Repository(FILES)
        assert pull_from_hub(running, folder).returncode == 0
    return folder


def pull_from_hub(hub: Hub, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    own = {**hub.environment, "HF_HOME": str(folder.parent / "hub-home"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "millrace.cli", "models", "pull", "org/model", "--to", str(folder), *arguments],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def files_in(folder: Path) -> dict[str, bytes]:
    """What a mirror holds, but for its manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_model_of_a_busy_hub_is_mirrored_at_its_commit_with_the_files_that_it_needs(hub: Hub, tmp_path: Path) -> None:
    # Given a hub that answers 429 to the first question, and to the first one about a file
    commit = hub.repositories["org/model"].commit
    hub.busy["/api/models/org/model/revision/main"] = 1
    hub.busy[f"/org/model/resolve/{commit}/config.json"] = 1

    # When
    done = pull_from_hub(hub, tmp_path / "mirror", "--revision", "main")

    # Then
    assert done.returncode == 0, done.stderr
    assert f"org/model at {commit} is in {tmp_path}/mirror: 7 files" in done.stdout
    assert files_in(tmp_path / "mirror") == FILES
    manifest = json.loads((tmp_path / "mirror" / MANIFEST).read_text())
    assert (manifest["name"], manifest["revision"]) == ("org/model", commit)
    assert manifest["source"] == f"{hub.url}/org/model"
    assert manifest["files"]["model.safetensors"]["size"] == 7000
    assert main(["models", "verify", str(tmp_path / "mirror")]) == 0


def test_an_interrupted_pull_goes_on_with_the_files_that_are_missing(hub: Hub, tmp_path: Path) -> None:
    # Given a hub that breaks off each transfer of the weights, and so a pull that gave up
    hub.cut["model.safetensors"] = [100] + [0] * 6
    first = pull_from_hub(hub, tmp_path / "mirror")
    assert first.returncode == 1, first.stdout
    assert "cannot be fetched" in first.stderr
    assert "Traceback" not in first.stderr
    assert not (tmp_path / "mirror").exists()
    small_files_fetched = hub.fetched("tokenizer.json")

    # When
    hub.cut.clear()
    second = pull_from_hub(hub, tmp_path / "mirror")

    # Then only the weights were fetched again, and nothing is left beside the mirror
    assert second.returncode == 0, second.stderr
    assert files_in(tmp_path / "mirror") == FILES
    assert hub.fetched("tokenizer.json") == small_files_fetched
    assert [path.name for path in tmp_path.iterdir() if "mirror" in path.name] == ["mirror"]


def test_a_mirror_that_is_up_to_date_is_left_alone_and_an_older_one_replaced(hub: Hub, tmp_path: Path) -> None:
    # Given
    assert pull_from_hub(hub, tmp_path / "mirror").returncode == 0
    fetched = hub.fetched("model.safetensors")

    # When nothing has changed
    done = pull_from_hub(hub, tmp_path / "mirror")

    # Then
    assert "was in" in done.stdout
    assert hub.fetched("model.safetensors") == fetched

    # When the model has
    newer = {**FILES, "model.safetensors": b"newer weights"}
    del newer["LICENSE"]
    hub.repositories["org/model"] = Repository(newer)
    done = pull_from_hub(hub, tmp_path / "mirror")

    # Then
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path / "mirror") == newer


def test_contents_that_are_not_what_the_hub_says_are_refused(hub: Hub, tmp_path: Path) -> None:
    for path in ("model.safetensors", "config.json"):  # one has a hash of LFS, the other git's
        hub.forged = {path: FILES[path].swapcase()}

        done = pull_from_hub(hub, tmp_path / f"mirror of {path}")

        assert done.returncode == 1
        assert f"{path} came with other contents" in done.stderr
        assert not (tmp_path / f"mirror of {path}").exists()


def test_a_revision_that_is_not_there_is_refused_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    done = pull_from_hub(hub, tmp_path / "mirror", "--revision", "f" * 40)

    assert done.returncode == 1
    assert "has no revision ffff" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.glob("*mirror*")) == []


def test_a_store_whose_client_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)

    assert main(["models", "pull", "m", "--from", "s3://key@bucket/model", "--to", str(tmp_path / "mirror")]) == 1

    assert capsys.readouterr().err == (
        "millrace: s3://bucket/model cannot be read without another package: pip install 'millrace[s3]'\n"
    )


def test_a_private_model_needs_the_token(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/model"] = Repository(FILES, token="hf_secret")

    without = pull_from_hub(hub, tmp_path / "mirror", HF_TOKEN="")
    with_token = pull_from_hub(hub, tmp_path / "mirror", HF_TOKEN="hf_secret")

    assert without.returncode == 1
    assert "is private and needs HF_TOKEN" in without.stderr
    assert with_token.returncode == 0, with_token.stderr
    assert not hub.leaked
    assert "hf_secret" not in (tmp_path / "mirror" / MANIFEST).read_text()


def test_pickles_are_not_mirrored_for_want_of_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})

    assert main(["models", "pull", "old", "--from", str(source), "--to", str(tmp_path / "mirror")]) == 1

    assert "has no safetensors weights" in capsys.readouterr().err


def test_a_mirror_of_a_mirror_in_an_object_store_keeps_its_revision(mirror: Path, tmp_path: Path) -> None:
    # Given a mirror that was copied into a bucket
    fsspec.filesystem("memory").put(f"{mirror}/", "/bucket/models/one/", recursive=True)

    # When it is pulled from there
    pull = ["models", "pull", "org/model", "--from", "memory://bucket/models/one", "--to", str(tmp_path / "second")]
    assert main([*pull, "--revision", Repository(FILES).commit]) == 0

    # Then
    assert files_in(tmp_path / "second") == FILES
    assert (tmp_path / "second" / MANIFEST).read_text() == (mirror / MANIFEST).read_text()


def test_a_store_whose_files_are_not_those_of_its_manifest_is_refused(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fsspec.filesystem("memory")
    store.put(f"{mirror}/", "/bucket/models/two/", recursive=True)
    pull = ["models", "pull", "org/model", "--from", "memory://bucket/models/two", "--to", str(tmp_path / "second")]

    # When another revision is asked for than that of the manifest
    assert main([*pull, "--revision", "f" * 40]) == 1
    assert "is not known to be revision ffff" in capsys.readouterr().err

    # When somebody has changed the weights, or taken a file
    store.pipe("/bucket/models/two/model.safetensors", FILES["model.safetensors"].swapcase())
    assert main(pull) == 1
    assert "model.safetensors came with other contents" in capsys.readouterr().err
    store.rm("/bucket/models/two/config.json")
    assert main(pull) == 1
    assert "lacks config.json" in capsys.readouterr().err

    # Then
    assert not (tmp_path / "second").exists()


def test_a_file_that_came_in_part_is_fetched_from_where_it_ended(tmp_path: Path) -> None:
    # Given a pull that was killed in the middle of the weights
    source = write(tmp_path / "source", FILES)
    partial = partial_folder(tmp_path / "second", StoreSource(str(source), None).listing().version)
    write(partial, {"model.safetensors.part": b"WEIGHTS"})

    # When: those bytes are kept, which is how this test knows
    status = main(["models", "pull", "mine", "--from", str(source), "--to", str(tmp_path / "second")])

    # Then
    assert status == 0
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == b"WEIGHTS" + FILES["model.safetensors"][7:]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "source", FILES)
    mine = write(tmp_path / "mine", {"notes.txt": b"do not lose"})

    assert main(["models", "pull", "model", "--from", str(source), "--to", str(mine)]) == 1

    assert "holds something that is no mirror" in capsys.readouterr().err
    assert files_in(mine) == {"notes.txt": b"do not lose"}


def test_a_changed_file_of_a_mirror_is_named_and_the_worker_refuses_half_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    source = write(tmp_path / "source", FILES)
    mirror = tmp_path / "mirror"
    assert main(["models", "pull", "mine", "--from", str(source), "--to", str(mirror)]) == 0
    assert local_folder(ModelConfig(name="mine", source=str(mirror))) == mirror

    # When a byte changes
    (mirror / "model.safetensors").write_bytes(FILES["model.safetensors"].replace(b"w", b"W", 1))
    assert main(["models", "verify", str(mirror)]) == 1
    assert "model.safetensors has other contents than its manifest says" in capsys.readouterr().out

    # When a file appears
    (mirror / "other.safetensors").write_bytes(b"")
    assert main(["models", "verify", str(mirror)]) == 1
    assert "other.safetensors is not in the manifest" in capsys.readouterr().out

    # When a copy ended early
    (mirror / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ConfigurationError, match=r"model mine: .*model\.safetensors has 7 bytes, and .* 7,000"):
        local_folder(ModelConfig(name="mine", source=str(mirror)))


def test_a_worker_waits_for_a_hub_that_is_busy_when_it_starts(hub: Hub, tmp_path: Path) -> None:
    hub.busy["/api/models/org/model/revision/main"] = 1
    load = "from shared.model_config import ModelConfig; from workers.weights import local_folder; "
    load += "print(local_folder(ModelConfig(name='m', source='org/model')))"

    done = subprocess.run(
        [sys.executable, "-c", load],
        env={**os.environ, **hub.environment, "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert files_in(Path(done.stdout.splitlines()[-1])) == FILES


def test_a_worker_serves_a_mirror_as_it_serves_the_original(hub: Hub, tmp_path: Path) -> None:
    # Given
    original = embedding_model(tmp_path / "tiny", "bert")
    hub.repositories["org/model"] = Repository(files_in(original))

    # When
    assert pull_from_hub(hub, tmp_path / "mirror").returncode == 0

    # Then
    texts = ["The weather is lovely today.", "He drove to the stadium."]
    assert (Served(tmp_path / "mirror").embed(texts) == Served(original).embed(texts)).all()
