"""What others have written and this process cannot read: it is left out, and told of once.

While a deployment is upgraded two versions write into the same Redis, each of which reads what both have written.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from shared.logging import get_logger

log = get_logger("millrace.fleet")


class Unreadable:
    """Entries of one kind, which are read again and again."""

    def __init__(self, event: str) -> None:
        """Build it.

        Args:
            event: What it is called in the log that an entry cannot be read.
        """
        self._event = event
        self._told: set[str] = set()
        self._found: set[str] = set()

    @contextmanager
    def left_out(self, name: str) -> Iterator[None]:
        """Do the block as far as it can be done with what stands in the entry of this name."""
        try:
            yield
        # pydantic's and orjson's errors are ValueErrors.
        except (ValueError, TypeError, LookupError, AttributeError) as err:
            if name not in self._told and name not in self._found:
                log.warning(self._event, name=name, error=_reason(err))
            self._found.add(name)

    def end_of_look(self) -> None:
        """All entries have been read: what could be read this time, or is gone, is told of when it comes again."""
        self._told, self._found = self._found, set()


def _reason(err: Exception) -> str:
    if isinstance(err, ValidationError):
        first = err.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(err).__name__}: {err}"
