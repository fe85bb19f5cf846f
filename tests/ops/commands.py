"""Programs that are run: their output is for whoever asked, and is shown when they fail."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(AssertionError):
    """A program ended with another status than 0; the message holds the end of what it said."""


class Unavailable(Exception):
    """This machine lacks something that the test needs; one sentence."""


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
) -> str:
    """Run a program to its end.

    Args:
        command: Its command line.
        timeout_s: How long it may take, in seconds.
        environment: All of its environment; this process's when None.
        folder: Where it runs.
        log: File that what it says is added to, while it says it.

    Returns:
        What it printed; with a log, its complaints too.

    Raises:
        CommandFailed: It failed.
    """
    given = {"env": environment, "cwd": folder, "stdin": subprocess.DEVNULL, "timeout": timeout_s, "check": False}
    if log is None:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", **given)
        printed, said = done.stdout, f"{done.stdout}{done.stderr}"
    else:
        with log.open("a+", errors="replace") as file:  # as it comes, for whoever watches
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            began = file.tell()
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, **given)
            file.seek(began)
            printed = said = file.read()
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(command)}` ended with {done.returncode}:\n{said.strip()[-3000:]}")
    return printed
