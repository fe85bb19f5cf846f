"""`python -m api`: the gateway as a process."""

import uvicorn

from api.app import create_app
from api.connections import Connection
from api.settings import ApiSettings
from shared.logging import configure_logging
from shared.settings import load_or_exit


def main() -> None:
    """Read the environment and serve until SIGTERM; requests under way are finished within the drain time."""
    settings = load_or_exit(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        loop="uvloop",
        http=Connection,
        ws="none",
        timeout_graceful_shutdown=int(settings.drain_s),
        timeout_keep_alive=75,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
