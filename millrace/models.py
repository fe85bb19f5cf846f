"""`millrace models`: which models this configuration serves, where their files are, and which devices have them."""

import sys
from pathlib import Path

from millrace.pinned_workers import placed
from shared.model_config import PACKAGE_SCHEME, ConfigurationError, ModelConfig
from workers.settings import WorkerSettings


def list_models(settings: WorkerSettings) -> int:
    """Print some lines per configured model. Nothing is fetched.

    Returns:
        The exit status: 1 if the models cannot be placed.
    """
    problem = ""
    try:
        devices = placed(settings, fetch=False)
    except ConfigurationError as err:
        devices, problem = [], str(err)
    for config in settings.models():
        aliases = f" (also {', '.join(config.aliases)})" if config.aliases else ""
        print(f"{config.name}{aliases}\n    from {_where(config)}")
        if having := [device.label or device.name for device, models in devices if config.name in models]:
            print(f"    on {', '.join(having)}")
    if problem:
        sys.stderr.write(f"millrace: {problem}\n")
    return 1 if problem else 0


def _where(config: ModelConfig) -> str:
    if config.source.startswith(PACKAGE_SCHEME):
        return f"Python package {config.source.removeprefix(PACKAGE_SCHEME)}"
    folder = Path(config.source).expanduser()
    if folder.is_dir():
        return f"folder {folder.resolve()}"
    return f"hub {config.source} at {config.revision or 'main'}"
