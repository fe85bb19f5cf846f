"""What the deployment is asked for."""

import argparse
import os
from typing import Any

import orjson

from millrace.ingest.plan import Plan
from millrace.ingest.problems import InputProblem


def job_options(options: argparse.Namespace, plan: Plan) -> dict[str, Any]:
    """The body of `POST /v1/jobs`; what the person did not say is left to the deployment.

    Args:
        options: Of the command.
        plan: What is to be known when the job is resumed.

    Raises:
        InputProblem: An option is not what it should be.
    """
    webhook = None
    if options.webhook:
        secret = os.environ.get("MILLRACE_WEBHOOK_SECRET")
        webhook = (
            {"url": options.webhook} | ({"secret": secret} if secret else {})
            if "://" in options.webhook
            else {"endpoint": options.webhook}
        )
    wanted = {
        "model": options.model,
        "kinds": plan.kind_list(),
        "dimensions": options.dimensions,
        "truncate": options.truncate,
        "precision": options.precision,
        "priority": options.priority,
        "webhook": webhook,
        "sink": options.sink,
        "sink_options": _object(options.sink_options) if options.sink_options else None,
        "metadata": plan.as_metadata(),
    }
    return {name: value for name, value in wanted.items() if value is not None}


def refuse_of_resumed(options: argparse.Namespace) -> None:
    """Refuse what a job that has begun cannot be told any more.

    Raises:
        InputProblem: It is asked for.
    """
    for name in ("webhook", "sink", "sink_options"):
        if getattr(options, name):
            raise InputProblem(f"--{name.replace('_', '-')} is for new jobs; leave it out to resume one")


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as err:
        raise InputProblem(f"--sink-options is not JSON: {err}") from err
    if not isinstance(value, dict):
        raise InputProblem("--sink-options must be a JSON object")
    return value
