"""A bundle's way into an engine: its own script brings images, and models into the volume from which workers read them."""

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from bundle.archive import seal
from bundle.compose import gather_compose
from bundle.models import gather_models
from shared.model_config import DEFAULT_MODEL, PACKAGE_SCHEME, ModelConfig
from tests.ops.commands import run
from tests.ops.engine import Engine

_TIMEOUT_S = 300


def load(engine: Engine, image: str, clone: Path, work: Path, environment: Mapping[str, str]) -> str:
    """Make a bundle of one image and one model, load it as documented, and have a worker's container read the model.

    Args:
        engine: Who has the image.
        image: One of them; all would take minutes.
        clone: The source tree, with `.env`.
        work: Where the bundle goes.
        environment: Of compose.
    """
    bundle, place = work / "bundle", work / "place"
    for folder in (bundle, place):
        shutil.rmtree(folder, ignore_errors=True)
    bundle.mkdir()
    models = gather_models([ModelConfig(name="mine", source=str(_default_model()))], bundle)
    (bundle / "images").mkdir()
    engine.docker("save", "--output", str(bundle / "images" / "images.tar"), image, timeout_s=_TIMEOUT_S)
    gather_compose(clone, bundle, models)
    seal(bundle)
    shutil.copytree(bundle / "compose", place)
    shutil.copy(clone / ".env", place)
    given = {"environment": environment, "folder": place, "timeout_s": _TIMEOUT_S}
    loaded = run(["sh", "load.sh", str(bundle)], **given)
    assert f"Loaded image: {image}" in loaded, loaded
    inside = f"/{models[0]['folder']}"
    run(["docker", "compose", "run", "--rm", "-T", "--no-deps", "worker-cpu", "models", "verify", inside], **given)
    shutil.rmtree(bundle)
    return f"images loaded, {inside} is in the volume, whole"


def _default_model() -> Path:
    package = find_spec(DEFAULT_MODEL.source.removeprefix(PACKAGE_SCHEME))
    assert package is not None
    assert package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "model"
