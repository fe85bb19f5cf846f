"""`python -m bundle`: makes one archive from which Millrace runs on a machine like this one without a network."""

import argparse
import sys
from pathlib import Path

from bundle.images import NoImages
from bundle.make import ROOT, make
from bundle.wheels import NoWheels
from millrace.mirror.source import CannotPull
from shared.logging import configure_logging
from shared.model_config import ConfigurationError, ModelConfig, configured_models
from shared.settings import Settings


def main() -> int:
    """Make it.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m bundle", description=__doc__)
    parser.add_argument("--models", default="", help="hub ids or folders, with commas (default: what is configured)")
    parser.add_argument("--extras", default="worker,callbacks,ingest,flower,embedded", help="of the project")
    parser.add_argument("--images", action="store_true", help="put in compose.yaml and the images that it names")
    parser.add_argument("--output", type=Path, default=ROOT / "build", help="folder of the archive (default: build)")
    options = parser.parse_args()
    configure_logging("info", "text")
    try:
        make(_configs(options.models), options.extras, options.output, images=options.images)
    except (CannotPull, NoWheels, NoImages, ConfigurationError) as err:
        sys.stderr.write(f"bundle: {err}\n")
        return 1
    return 0


def _configs(models: str) -> list[ModelConfig]:
    settings = Settings.load()
    return configured_models(models, None) if models else settings.models()


if __name__ == "__main__":
    sys.exit(main())
