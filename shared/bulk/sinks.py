"""The operator's sinks: `sinks.yaml` says what they are, so that callers only name one and never see its address."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.bulk.sink_cards import unknown_option
from shared.errors import UnknownSink
from shared.model_config import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: `api_key_env: QDRANT_KEY` is `api_key` with the value of that environment variable.
_FROM_ENVIRONMENT = "_env"


class SinkConfig:
    """One sink as the operator declared it."""

    def __init__(self, name: str, kind: str, options: Mapping[str, Any]) -> None:
        """Describe a sink.

        Args:
            name: What callers call it.
            kind: Name of the plug-in in `workers/sinks/`.
            options: The plug-in's, where a name that ends in `_env` stands for an environment variable.
        """
        self.name = name
        self.kind = kind
        self._options = dict(options)

    def declares(self, option: str) -> bool:
        """Whether the operator has decided about an option, so that callers cannot."""
        return option in self._options or f"{option}{_FROM_ENVIRONMENT}" in self._options

    def options(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Its options with the values of environment variables in their places.

        Raises:
            ConfigurationError: A variable is not set.
        """
        found: dict[str, Any] = {}
        for name, value in self._options.items():
            if not name.endswith(_FROM_ENVIRONMENT):
                found[name] = value
            elif str(value) in environment:
                found[name.removesuffix(_FROM_ENVIRONMENT)] = environment[str(value)]
            else:
                raise ConfigurationError(f"sink {self.name}: `{name}` names {value}, which is not set")
        return found

    def merged(
        self, caller: Mapping[str, Any], allowed: frozenset[str], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Its options and those that a caller adds.

        Args:
            caller: The caller's.
            allowed: Those that callers may set where the operator has not.
            environment: Where secrets are.

        Raises:
            InvalidRequest: The caller sets another one.
            ConfigurationError: A variable is not set.
        """
        for name in caller:
            if name not in allowed or self.declares(name):
                raise unknown_option(self.name, name, [one for one in allowed if not self.declares(one)])
        return {**self.options(environment), **caller}


def configured_sinks(path: Path | None) -> dict[str, SinkConfig]:
    """The sinks that jobs may name.

    Args:
        path: MILLRACE_SINKS_FILE, or None for `sinks.yaml` in the working folder if there is one.

    Raises:
        ConfigurationError: The file is missing or wrong.
    """
    file = path or Path("sinks.yaml")
    if path is None and not file.exists():
        return {}
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as err:
        raise ConfigurationError(f"{file} (MILLRACE_SINKS_FILE) cannot be read: {err.strerror}") from err
    except yaml.YAMLError as err:
        # Without the line itself, which may hold a password.
        mark = getattr(err, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{file} is not valid YAML{where}") from None
    declared = content.get("sinks") if isinstance(content, dict) else None
    if not isinstance(declared, dict):
        raise ConfigurationError(f"{file} must have `sinks:` with a name and its settings for each")
    return {str(name): _sink(file, str(name), settings) for name, settings in declared.items()}


def _sink(file: Path, name: str, settings: Any) -> SinkConfig:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{file}: sink name {name!r} may hold letters, digits, _ and - only")
    if not isinstance(settings, dict) or not isinstance(settings.get("type"), str):
        raise ConfigurationError(f"{file}: sink {name} must have a `type`")
    return SinkConfig(name, settings["type"], {key: value for key, value in settings.items() if key != "type"})


def refuse_unknown_sink(name: str, sinks: Mapping[str, SinkConfig]) -> None:
    """Refuse a sink that the operator has not declared.

    Raises:
        UnknownSink: With the names of those that are.
    """
    if name not in sinks:
        known = ", ".join(sorted(sinks)) or "none"
        raise UnknownSink(f"there is no sink {name[:64]!r}; there are: {known}", param="sink")
