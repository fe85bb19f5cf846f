"""A bundle's installer: nothing damaged gets in, twice is as good as once, an upgrade is one step."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.small_bundle import archive_of, small_bundle

ROOT = Path(__file__).parents[2]


def install(bundle: Path, to: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Install an archive as `make install-bundle` does, and a folder by its own script."""
    command = (
        ["sh", str(bundle / "install.sh")]
        if bundle.is_dir()
        else [sys.executable, "-m", "bundle.installer", str(bundle)]
    )
    return subprocess.run(
        [*command, "--to", str(to), *arguments],
        # Nothing of this can be reached, and a bundle has no use for it.
        env={**os.environ, "PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PYTHONPATH": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(to: Path) -> list[str]:
    """What the installed command says: version, environment, HF_HUB_OFFLINE, models file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MILLRACE_"))}
    return subprocess.run(
        [str(to / "millrace")], env=environment, capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()


def names(folder: Path) -> list[str]:
    """Of what is in a folder, without what follows the last hyphen."""
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


def test_an_archive_is_installed_and_the_command_runs_with_the_hub_switched_off(tmp_path: Path) -> None:
    # Given a bundle with a model
    archive = archive_of(small_bundle(tmp_path, "1.0", models={"reranker": b"weights"}))

    # When
    done = install(archive, tmp_path / "a place")

    # Then
    assert done.returncode == 0, done.stderr
    assert f"Start it: {tmp_path}/a place/millrace serve" in done.stdout
    printed = " ".join(run(tmp_path / "a place"))
    assert printed.startswith(f"1.0 {tmp_path}/a place/releases/1.0-")
    assert printed.endswith(f" 1 {tmp_path}/a place/current/models.yaml")
    (model,) = (tmp_path / "a place" / "models").iterdir()
    assert f'"source": "{model}"' in (tmp_path / "a place" / "current" / "models.yaml").read_text()
    assert (model / "model.safetensors").read_bytes() == b"weights"


def test_installing_twice_changes_nothing_and_upgrades_keep_one_release_to_go_back_to(tmp_path: Path) -> None:
    # Given
    to = tmp_path / "to"
    first = small_bundle(tmp_path, "1.0", models={"reranker": b"old", "embedder": b"same"})
    assert install(first, to).returncode == 0
    packages = (to / "current" / "venv" / "lib").stat().st_mtime_ns

    # When the same comes again
    again = install(first, to)

    # Then
    assert again.returncode == 0, again.stderr
    assert "is installed already" in again.stdout
    assert (to / "current" / "venv" / "lib").stat().st_mtime_ns == packages

    # When another comes
    second = small_bundle(tmp_path, "1.1", models={"reranker": b"new", "embedder": b"same"})
    assert install(second, to).returncode == 0

    # Then it runs, and a model that is the same is there once
    assert run(to)[0] == "1.1"
    assert names(to / "releases") == ["1.0", "1.1"]
    assert names(to / "models") == ["embedder", "reranker", "reranker"]

    # When a third comes, without models
    assert install(small_bundle(tmp_path, "1.2"), to).returncode == 0

    # Then the first is gone, with what only it used
    assert run(to) == ["1.2", str((to / "current").resolve() / "venv"), "1", "None"]
    assert names(to / "releases") == ["1.1", "1.2"]
    assert names(to / "models") == ["embedder", "reranker"]

    # When one goes back
    assert install(second, to).returncode == 0
    assert run(to)[0] == "1.1"


def test_a_release_that_does_not_start_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    to = tmp_path / "to"
    assert install(small_bundle(tmp_path, "1.0"), to).returncode == 0

    done = install(small_bundle(tmp_path, "1.1", starts=False), to)

    assert done.returncode == 1
    assert "the installed command does not start" in done.stderr
    assert run(to)[0] == "1.0"


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda bundle: _change(bundle / "wheels" / "millrace-1.0-py3-none-any.whl"),
            "millrace-1.0-py3-none-any.whl is damaged",
        ),
        (lambda bundle: (bundle / "bundle.json").unlink(), "bundle.json is missing"),
        (
            lambda bundle: (bundle / "wheels" / "evil-1.0-py3-none-any.whl").touch(),
            "evil-1.0-py3-none-any.whl does not belong",
        ),
        (lambda bundle: (bundle / "SHA256SUMS").unlink(), "it has no SHA256SUMS"),
        (lambda bundle: _change(bundle / "SHA256SUMS"), "SHA256SUMS"),
    ],
    ids=["a changed wheel", "a missing file", "one more wheel", "no checksums", "changed checksums"],
)
def test_a_bundle_that_was_changed_is_refused_by_the_name_of_the_file(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    bundle = small_bundle(tmp_path, "1.0")
    damage(bundle)

    done = install(bundle, tmp_path / "to")

    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    # Given, and one whose checksum did not come along
    archive = archive_of(small_bundle(tmp_path, "1.0"))
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])

    with_sum = install(archive, tmp_path / "to")
    archive.with_name(f"{archive.name}.sha256").unlink()
    without = install(archive, tmp_path / "to")

    assert (with_sum.returncode, without.returncode) == (1, 1)
    assert f"{archive} is damaged or was changed" in with_sum.stderr
    assert any(word in without.stderr for word in ("truncated", "incomplete", "no bundle"))
    assert list((tmp_path / "to").iterdir()) == []


def test_the_checksum_that_was_told_is_the_one_that_counts(tmp_path: Path) -> None:
    # Given an archive that was made anew by somebody else, with checksums that fit
    archive = archive_of(small_bundle(tmp_path, "1.0"))

    done = install(archive, tmp_path / "to", "--sha256", "0" * 64)

    assert done.returncode == 1
    assert "its checksum is not 0000" in done.stderr


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("processor", "sparc", "this bundle is for processor sparc, and here it is"),
        ("glibc", "99.0", "this bundle needs glibc 99.0 or newer"),
    ],
)
def test_a_bundle_for_another_machine_is_refused(tmp_path: Path, key: str, value: str, sentence: str) -> None:
    bundle = small_bundle(tmp_path, "1.0", machine={key: value})

    done = install(bundle, tmp_path / "to")

    assert done.returncode == 1
    assert sentence in done.stderr


def test_the_script_says_which_python_it_needs(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path, "1.0", machine={"python": "3.99"})

    done = install(bundle, tmp_path / "to")

    assert done.returncode == 1
    assert "this bundle needs Python 3.99" in done.stderr
