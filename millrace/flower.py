"""`python -m millrace.flower`: Flower on the service's own Celery application."""

import os
import sys
from ipaddress import ip_address

from millrace.settings import ServeSettings
from shared.celery_app import make_celery
from shared.logging import configure_logging
from shared.settings import load_or_exit


def main() -> None:
    """Serve Flower. The broker's URL travels in the environment, never on a command line."""
    settings = load_or_exit(ServeSettings)
    if not _is_loopback(settings.flower_host) and not os.environ.get("FLOWER_BASIC_AUTH"):
        sys.stderr.write(
            f"millrace: Flower on {settings.flower_host} (MILLRACE_FLOWER_HOST) would be open to everybody who reaches it; "
            "set FLOWER_BASIC_AUTH=user:password\n"
        )
        raise SystemExit(os.EX_CONFIG)
    configure_logging(settings.log_level, settings.log_format)
    app = make_celery(settings)
    app.start(
        [
            "flower",
            f"--address={settings.flower_host}",
            f"--port={settings.flower_port}",
            "--max_tasks=10000",
            # The arguments say model, lane and requests, the result says items and tokens: what an operator looks for.
            "--tasks_columns=name,args,result,state,received,runtime,worker",
        ]
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
