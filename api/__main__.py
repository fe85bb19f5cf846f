"""`python -m api`: the gateway as a process."""

import os
import sys

import uvicorn

from api.app import create_app
from api.settings import ApiSettings, names
from shared.logging import configure_logging
from shared.model_config import ConfigurationError
from shared.settings import load_or_exit


def main() -> None:
    """Read the environment and serve until SIGTERM; requests under way are finished within the drain time."""
    settings = load_or_exit(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    try:
        app = create_app(settings)
    except ConfigurationError as err:
        sys.stderr.write(f"millrace: {err}\n")
        raise SystemExit(os.EX_CONFIG) from err
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        # Off by default in our hands: uvicorn's own default believes every local process.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=names(settings.trusted_proxies),
        server_header=False,
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=int(settings.drain_s),
        timeout_keep_alive=75,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
