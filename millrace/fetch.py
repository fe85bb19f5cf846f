"""`millrace models fetch`: bring the files of every configured model here, before a worker needs them."""

import sys

from shared.logging import configure_logging
from shared.model_config import ConfigurationError
from shared.settings import Settings
from workers.weights import local_folder


def fetch_models(settings: Settings) -> int:
    """Fetch what is not here yet, as patiently as a worker does, and say where it is.

    Returns:
        The exit status: 0 if every model is here.
    """
    configure_logging(settings.log_level, settings.log_format)
    for config in settings.models():
        try:
            folder = local_folder(config)
        except ConfigurationError as err:
            sys.stderr.write(f"millrace: {err}\n")
            return 1
        sys.stdout.write(f"{config.name}: {folder}\n")
        sys.stdout.flush()
    return 0
