"""Plug-ins: every module of a folder ends in the constant `PLUGIN`; adding a file is all it takes to add one."""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


class PluginError(Exception):
    """A plug-in module is not one, or two share a name."""


def discover(package: ModuleType) -> dict[str, Any]:
    """The plug-ins of a package by their `name`, in alphabetical order of the modules.

    Raises:
        PluginError: A module has no `PLUGIN`, or a name is taken.
    """
    found: dict[str, Any] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        plugin = getattr(module, "PLUGIN", None)
        if plugin is None:
            raise PluginError(f"{module.__name__} has no PLUGIN")
        if plugin.name in found:
            raise PluginError(f"{module.__name__}: the name {plugin.name!r} is taken")
        found[plugin.name] = plugin
    return found
