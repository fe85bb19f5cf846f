"""The models of a bundle: mirrored into it, or carried by Python packages."""

import shutil
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from millrace.mirror.hub_source import HubSource
from millrace.mirror.pull import pull
from millrace.mirror.source import CannotPull, Source
from millrace.mirror.store_source import StoreSource
from shared.model_config import DEFAULT_MODEL, PACKAGE_SCHEME, ModelConfig


def requirements(configs: Sequence[ModelConfig]) -> list[str]:
    """The packages that carry models, as they are installed here."""
    distributions = packages_distributions()
    packages = [
        config.source.removeprefix(PACKAGE_SCHEME) for config in configs if config.source.startswith(PACKAGE_SCHEME)
    ]
    if missing := [package for package in packages if package not in distributions]:
        raise CannotPull(f"the Python package {missing[0]}, which carries a model, is not installed")
    return [f"{name}=={version(name)}" for name in (distributions[package][0] for package in packages)]


def gather_models(configs: Sequence[ModelConfig], bundle: Path) -> list[dict[str, Any]]:
    """Mirror models into a bundle.

    Args:
        configs: What is to be served from it.
        bundle: The bundle's folder.

    Returns:
        `models.yaml` for the other end: `folder`, in the bundle, in the place of a `source` that is not a package. Nothing
        where only the default model is served, which needs none.

    Raises:
        CannotPull: A model cannot be had whole.
    """
    if list(configs) == [DEFAULT_MODEL]:
        return []
    return [_gathered(config, bundle) for config in configs]


def _gathered(config: ModelConfig, bundle: Path) -> dict[str, Any]:
    entry = config.model_dump(mode="json", exclude_defaults=True)
    entry.pop("revision", None)
    if config.int8_ranges is not None:
        entry["int8_ranges"] = f"models/{_folder_name(config)}.npy"
        (bundle / "models").mkdir(exist_ok=True)
        shutil.copyfile(config.int8_ranges, bundle / entry["int8_ranges"])
    if config.source.startswith(PACKAGE_SCHEME):
        return entry
    folder = f"models/{_folder_name(config)}"
    here = Path(config.source).expanduser()
    source: Source
    source = StoreSource(str(here), None) if here.is_dir() else HubSource(config.source, config.revision)
    pull(source, config.name, bundle / folder)
    del entry["source"]
    return {**entry, "folder": folder}


def _folder_name(config: ModelConfig) -> str:
    """That of the model's own folder or repository: some families are told by it."""
    here = Path(config.source).expanduser()
    return here.resolve().name if here.is_dir() else config.source.replace("/", "--")
