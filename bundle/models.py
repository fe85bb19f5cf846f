"""The models of a bundle: mirrored into it, or carried by Python packages."""

import shutil
from collections.abc import Hashable, Sequence
from importlib.metadata import packages_distributions, version
from itertools import chain, count
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
    folders, ranges = _Names(), _Names()
    return [_gathered(config, bundle, folders, ranges) for config in configs]


class _Names:
    """Names of things in a bundle: each its own, with a number where that is another's."""

    def __init__(self) -> None:
        self._given: dict[Hashable, str] = {}

    def given(self, wanted: str, thing: Hashable) -> str:
        """The name of a thing; the same one whenever it is asked for."""
        if thing not in self._given:
            numbered = chain([wanted], (f"{wanted}-{number}" for number in count(2)))
            self._given[thing] = next(name for name in numbered if name not in self._given.values())
        return self._given[thing]


def _gathered(config: ModelConfig, bundle: Path, folders: _Names, ranges: _Names) -> dict[str, Any]:
    entry = config.model_dump(mode="json", exclude_defaults=True)
    entry.pop("revision", None)
    if config.int8_ranges is not None:
        entry["int8_ranges"] = f"int8_ranges/{ranges.given(_own_name(config), config.int8_ranges.resolve())}.npy"
        (bundle / "int8_ranges").mkdir(exist_ok=True)
        shutil.copyfile(config.int8_ranges, bundle / entry["int8_ranges"])
    if config.source.startswith(PACKAGE_SCHEME):
        return entry
    here = Path(config.source).expanduser()
    place = here.resolve() if here.is_dir() else (config.source, config.revision)
    folder = f"models/{folders.given(_own_name(config), place)}"
    if not (bundle / folder).exists():
        source: Source = StoreSource(str(here), None) if here.is_dir() else HubSource(config.source, config.revision)
        pull(source, config.name, bundle / folder)
    del entry["source"]
    return {**entry, "folder": folder}


def _own_name(config: ModelConfig) -> str:
    """That of the model's own folder or repository: some families are told by it."""
    here = Path(config.source).expanduser()
    return here.resolve().name if here.is_dir() else config.source.replace("/", "--")
