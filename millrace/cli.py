"""The `millrace` command."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; all but `check` and `ingest` are configured by MILLRACE_* variables.

    Returns:
        The exit status.
    """
    try:
        with _ended_by_ctrl_c():
            command = _load(arguments)
        return command() or 0
    except KeyboardInterrupt:  # of a command that has no answer of its own to it
        return _INTERRUPTED


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process at once and says nothing: nothing has begun yet that would have to be put in order.

    A `KeyboardInterrupt` would get lost where modules are loaded: it may come up in a callback of a weak reference (the
    import system has one for each module's lock), and what is raised there is printed and forgotten.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # a process in the background is deaf to it, and stays so
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


def _load(arguments: Sequence[str] | None) -> Callable[[], int | None]:
    # Modules are loaded here and below, so that nothing takes long before the interruption of it is dealt with.
    from shared.settings import load_or_exit

    options = _parser().parse_args(arguments)
    match options.command:
        case "serve":
            from millrace.serve import serve
            from millrace.settings import ServeSettings

            return lambda: serve(load_or_exit(ServeSettings))
        case "gateway":
            from api.__main__ import main as gateway

            return gateway
        case "worker":
            if options.callbacks:
                from workers.callbacks.__main__ import main as callback_worker

                return callback_worker
            from millrace.worker import run_workers
            from workers.settings import WorkerSettings

            return lambda: run_workers(load_or_exit(WorkerSettings))
        case "jobs":
            from api.bulk.__main__ import main as run_jobs

            return run_jobs
        case "flower":
            from millrace.flower import main as flower

            return flower
        case "ingest":
            from millrace.ingest.run import ingest

            return lambda: ingest(options)
        case "models":
            from millrace.mirror.command import models

            return lambda: models(options)
        case "redis":
            from millrace.redis_command import ask
            from shared.settings import Settings

            return lambda: ask(options.words, load_or_exit(Settings))
        case "keys":
            from millrace.keys import create

            return lambda: create(options.tenant, options.name)
        case _:
            from millrace.check import check
            from millrace.keys import first_key

            api_key = options.api_key or first_key(os.environ.get("MILLRACE_API_KEY"))
            return lambda: check(options.url, timeout_s=options.timeout, api_key=api_key, wake_s=options.wake)


def _parser() -> argparse.ArgumentParser:
    from millrace.ingest.command import add_arguments
    from millrace.mirror import command as models
    from shared import __version__

    parser = argparse.ArgumentParser(
        prog="millrace",
        description="Embeddings and reranking as a service on a queue.",
        epilog="Settings are MILLRACE_* environment variables; docs/reference/configuration.md lists them.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("serve", help="run everything on this machine, in the foreground")
    commands.add_parser("gateway", help="run the HTTP gateway only")
    worker = commands.add_parser("worker", help="run the workers only, one on each GPU")
    worker.add_argument("--callbacks", action="store_true", help="one that sends callbacks of bulk jobs, not a model's")
    commands.add_parser("jobs", help="run the bulk jobs' runner only")
    commands.add_parser("flower", help="run Flower only: the tasks of the last minutes, in a browser")
    add_arguments(commands.add_parser("ingest", help="index files through a running deployment"))
    models.add_arguments(commands.add_parser("models", help="list the configured models, mirror one, check a mirror"))
    redis = commands.add_parser("redis", help="send a command to the deployment's Redis: `millrace redis info memory`")
    redis.add_argument("words", nargs="+", metavar="WORD", help="the command and its arguments")
    keys = commands.add_parser("keys", help="make API keys").add_subparsers(required=True, metavar="command")
    create = keys.add_parser("create", help="print a fresh key, and its hash for the keys file")
    create.add_argument("--tenant", default="somebody", help="whose it is (default: %(default)s)")
    create.add_argument("--name", default="first", help="what it is called in logs (default: %(default)s)")
    check = commands.add_parser("check", help="test a running deployment and print a table")
    check.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)")
    check.add_argument("--api-key", help="sent as a bearer token (default: MILLRACE_API_KEY)")
    check.add_argument("--timeout", type=float, default=30.0, help="seconds per request (default: %(default)s)")
    check.add_argument(
        "--wake", type=float, default=0.0, metavar="S", help="wake models that sleep, and wait so many seconds for them"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
