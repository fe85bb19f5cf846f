"""`millrace flower`: Flower on the service's own Celery application."""

import os
from http import HTTPStatus
from typing import Any

from flower.options import options
from flower.urls import settings as tornado_settings
from flower.views.monitor import Healthcheck, Metrics
from tornado.web import HTTPError, RequestHandler

from millrace.settings import FlowerSettings
from shared.celery_app import make_celery
from shared.logging import configure_logging
from shared.settings import load_or_exit

#: Tasks that it remembers; the oldest go first.
_TASKS = 10_000


def main() -> None:
    """Serve Flower until SIGTERM. Its command line has no secret: the broker's URL and the password are handed over."""
    settings = load_or_exit(FlowerSettings)
    if not settings.flower_port:
        raise SystemExit("millrace: MILLRACE_FLOWER_PORT is 0, which turns Flower off; set its port")
    configure_logging(settings.log_level, settings.log_format)
    if password := settings.flower_password.get_secret_value():
        os.environ.pop("FLOWER_BASIC_AUTH", None)  # Flower's own variable would win, and splits at commas
        options.basic_auth = [password]
    options.format_task = _shown
    arguments = [
        "flower",
        f"--address={settings.flower_host}",
        f"--port={settings.flower_port}",
        f"--max_tasks={_TASKS}",
        # The arguments say lane, model, requests and items, the result says tokens: what an operator looks for.
        "--tasks_columns=name,args,result,state,received,runtime,worker",
    ]
    if settings.flower_url_prefix:
        arguments.append(f"--url_prefix={settings.flower_url_prefix}")
        tornado_settings["default_handler_class"] = _OutsideOfPrefix
    status = 0
    try:
        make_celery(settings).start(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    # Its threads may be waiting for a broker that is away, and Python would wait for them. It has nothing to save.
    os._exit(status)


class _OutsideOfPrefix(RequestHandler):
    """What does not come through the proxy: health checks and Prometheus ask where they always do."""

    async def get(self) -> None:
        match self.request.path:
            case "/healthcheck":
                await Healthcheck.get(self)
            case "/metrics":
                await Metrics.get(self)
            case _:
                raise HTTPError(HTTPStatus.NOT_FOUND)


def _shown(task: Any) -> Any:
    """A task as the list has it, where some forty letters of the arguments are seen: lane and model's short name first."""
    lane, _, rest = (task.args or "").partition(" ")
    _, _, model = rest.rpartition("model=")
    if lane.startswith("lane=") and model:
        task.args = f"{lane.removeprefix('lane=')} {model.rsplit('/', 1)[-1]} {rest}"
    return task


if __name__ == "__main__":
    main()
