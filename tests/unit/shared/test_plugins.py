"""Discovery of plug-ins: a file is enough, a name is taken once."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shared.plugins import PluginError, discover

_PLUGIN = "class Plugin:\n    name = {name!r}\n\nPLUGIN = Plugin()\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An empty package on disk, importable."""
    folder = tmp_path / "stalls"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("stalls")
    for name in [name for name in sys.modules if name.split(".")[0] == "stalls"]:
        del sys.modules[name]


def _add(package: ModuleType, module: str, text: str) -> None:
    (Path(package.__path__[0]) / f"{module}.py").write_text(text)
    importlib.invalidate_caches()


def test_adding_a_file_adds_a_plug_in(package: ModuleType) -> None:
    _add(package, "bread", _PLUGIN.format(name="bread"))
    _add(package, "apples", _PLUGIN.format(name="apples"))

    assert list(discover(package)) == ["apples", "bread"]


def test_a_module_without_a_plug_in_is_refused_by_name(package: ModuleType) -> None:
    _add(package, "empty", "")

    with pytest.raises(PluginError, match=r"stalls\.empty has no PLUGIN"):
        discover(package)


def test_a_name_that_is_taken_is_refused(package: ModuleType) -> None:
    _add(package, "one", _PLUGIN.format(name="same"))
    _add(package, "two", _PLUGIN.format(name="same"))

    with pytest.raises(PluginError, match=r"stalls\.two: the name 'same' is taken"):
        discover(package)
