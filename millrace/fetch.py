"""`millrace models --fetch`: bring the files of every model here, patiently, since hubs say 429 to many at once."""

import sys
import time
from collections.abc import Iterator

from shared.model_config import ConfigurationError, ModelConfig
from shared.settings import Settings
from workers.weights import local_folder

#: Pauses before another attempt where the hub names none, in seconds; the last one repeats.
_PAUSES_S = (2.0, 5.0, 15.0, 30.0, 60.0)
#: Longest pause that a hub is believed, in seconds.
_LONGEST_PAUSE_S = 600.0


def fetch_models(settings: Settings, *, patience_s: float) -> int:
    """Fetch what is not here yet, and say where it is.

    Args:
        settings: The deployment's.
        patience_s: How long a model is asked for again, in seconds, while the hub cannot be reached or refuses for now.

    Returns:
        The exit status: 0 if every model is here.
    """
    for config in settings.models():
        try:
            folder = until_fetched(config, patience_s=patience_s)
        except ConfigurationError as err:
            sys.stderr.write(f"millrace: {err}\n")
            return 1
        sys.stdout.write(f"{config.name}: {folder}\n")
        sys.stdout.flush()
    return 0


def until_fetched(config: ModelConfig, *, patience_s: float) -> str:
    """The folder of a model's files.

    Raises:
        ConfigurationError: It cannot be had, or not within the time.
    """
    refused_at, attempt = 0.0, 0
    while True:
        try:
            return str(local_folder(config))
        except ConfigurationError as err:
            now, pause_s = time.monotonic(), _pause_s(err, attempt)
            refused_at = refused_at or now
            if pause_s is None or now + pause_s > refused_at + patience_s:
                raise
            sys.stderr.write(f"millrace: {err}; asked again in {pause_s:.0f} s\n")
        attempt += 1
        time.sleep(pause_s)


def _pause_s(error: BaseException, attempt: int) -> float | None:
    """How long to wait before another attempt, in seconds; None where it would fail in the same way."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    usual_s = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
    causes = list(_causes(error))
    for cause in causes:
        response = getattr(cause, "response", None)
        if response is not None:
            if response.status_code not in (408, 429) and response.status_code < 500:
                return None
            named = response.headers.get("retry-after", "")
            return min(float(named), _LONGEST_PAUSE_S) if named.isdecimal() else usual_s
    # Without any answer the hub's client looks for files of an earlier time, and finds none.
    return usual_s if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
