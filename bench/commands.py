"""The inside of a measuring process: commands, JSON lines, on its stdin, answers on its stdout.

Standard library only: it also runs in the environments of other systems.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


def answer_commands(prepare: Callable[[], Mapping[str, Callable[..., Any]]]) -> None:
    """Be a measuring process until stdin ends.

    Args:
        prepare: Loads what is needed; returns the commands by name.
    """
    # Whatever a library prints goes to the log, not into the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    commands = prepare()
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": commands[arguments.pop("command")](**arguments)}
        except Exception as err:  # noqa: BLE001 - the parent is told, and ends the run
            answer = {"failed": f"{type(err).__name__}: {err}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
