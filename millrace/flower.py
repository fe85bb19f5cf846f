"""`python -m millrace.flower`: Flower on the service's own Celery application."""

from millrace.settings import ServeSettings
from shared.celery_app import make_celery
from shared.logging import configure_logging
from shared.settings import load_or_exit


def main() -> None:
    """Serve Flower on loopback. The broker's URL travels in the environment, never on a command line."""
    settings = load_or_exit(ServeSettings)
    configure_logging(settings.log_level, settings.log_format)
    app = make_celery(settings)
    app.start(
        [
            "flower",
            "--address=127.0.0.1",
            f"--port={settings.flower_port}",
            "--max_tasks=10000",
            # The arguments say model, lane and requests, the result says items and tokens: what an operator looks for.
            "--tasks_columns=name,args,result,state,received,runtime,worker",
        ]
    )


if __name__ == "__main__":
    main()
