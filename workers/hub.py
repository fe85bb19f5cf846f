"""The model hub: a repository's files, and patience where the hub asks for it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared.errors import first_line
from shared.logging import get_logger
from workers.model_files import NEEDED, NOT_NEEDED

log = get_logger("workers.hub")

#: Waits between attempts in seconds, where the hub does not say how long; as many attempts more as there are waits.
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: The longest wait that the hub may ask for, in seconds.
_LONGEST_WAIT_S = 300.0
#: What it answers while it is busy; a start of many machines at once gets 429.
_BUSY = frozenset({429, 500, 502, 503, 504})

T = TypeVar("T")


class HubUnreachable(OSError):
    """No answer came from the hub."""


def patiently(ask: Callable[[], T]) -> T:
    """Ask the hub, and again when it is busy.

    Its library repeats some requests by itself, but neither the first nor those about single files.

    Args:
        ask: What is asked; files that are whole already are not fetched twice.

    Raises:
        OSError: What its library says of an answer that is no good, or `HubUnreachable`.
        ValueError: What is asked for cannot be.
    """
    for wait_s in _WAITS_S:
        try:
            return _with_plain_errors(ask)
        except OSError as err:
            asked_s = _wait_s(err, wait_s)
            if asked_s is None:
                raise
            log.warning("hub_busy", wait_s=asked_s)
            time.sleep(asked_s)
    return _with_plain_errors(ask)


def fetch(repository: str, revision: str | None, folder: Path | None = None, *, local_files_only: bool = False) -> Path:
    """Fetch what is needed of a repository.

    Args:
        repository: Its name.
        revision: Branch, tag or commit.
        folder: Where the files go; into the hub's cache when None.
        local_files_only: Whether to ask nobody, and be content with what was fetched before.

    Returns:
        The folder of the files.
    """
    from huggingface_hub import snapshot_download

    return Path(
        patiently(
            lambda: snapshot_download(
                repository,
                revision=revision,
                local_dir=folder,
                allow_patterns=list(NEEDED),
                ignore_patterns=list(NOT_NEEDED),
                local_files_only=local_files_only,
            )
        )
    )


def _with_plain_errors(ask: Callable[[], T]) -> T:
    """Errors of connections are of the class that the library's own client of HTTP has for them."""
    try:
        return ask()
    except (OSError, ValueError):
        raise
    except Exception as err:
        if type(err).__module__.split(".")[0] in ("httpx", "httpx2", "huggingface_hub"):
            raise HubUnreachable(first_line(err)) from err
        raise


def _wait_s(err: BaseException, otherwise_s: float) -> float | None:
    """How long to wait before the hub is asked again, in seconds; None if that is of no use."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import parse_ratelimit_headers

    cause: BaseException | None = err
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__  # the library reports a hub that cannot be asked as a file that is not here
    if cause is None or cause.response is None or cause.response.status_code not in _BUSY:
        return None
    headers = cause.response.headers
    limits = parse_ratelimit_headers(headers)
    asked = headers.get("retry-after", "")
    if limits is not None and limits.remaining == 0:
        asked_s = float(limits.reset_in_seconds)
    else:
        asked_s = float(asked) if asked.isdigit() else otherwise_s
    return min(asked_s, _LONGEST_WAIT_S)
