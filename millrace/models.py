"""`millrace models`: which models this configuration serves, and whether their files are here."""

from pathlib import Path

from shared.model_config import PACKAGE_SCHEME, ModelConfig
from shared.settings import Settings


def list_models(settings: Settings) -> int:
    """Print a line per configured model.

    Returns:
        0; the exit status.
    """
    for config in settings.models():
        aliases = f" (also {', '.join(config.aliases)})" if config.aliases else ""
        print(f"{config.name}{aliases}\n    from {_where(config)}")
    return 0


def _where(config: ModelConfig) -> str:
    if config.source.startswith(PACKAGE_SCHEME):
        return f"Python package {config.source.removeprefix(PACKAGE_SCHEME)}"
    folder = Path(config.source).expanduser()
    if folder.is_dir():
        return f"folder {folder.resolve()}"
    return f"hub {config.source} at {config.revision or 'main'}"
