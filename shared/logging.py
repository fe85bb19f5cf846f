"""Structured logs for every process, to stderr: our events and foreign records, rendered alike.

An event is a constant name in the past tense and facts are fields. Identifiers and sizes, never texts, vectors or keys.
Our own events do not pass through the standard library's logging: a line for each request is a tenth of the gateway's time
even so, and was a sixth with it.
"""

import logging
import sys
from io import StringIO
from typing import Any, TextIO

import structlog

_SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]

#: Fields that are rendered by themselves, in lines of their own.
_TRACEBACKS = frozenset({"exc_info", "exception", "stack"})

#: Loggers that are chatty at INFO about what our own events already say.
_QUIET = (
    "kombu",
    "celery",
    "uvicorn",
    "uvicorn.error",
    "httpx",
    "httpx2",
    "asyncio",
    "sentence_transformers",
    "transformers",
)


def configure_logging(level: str, log_format: str) -> None:
    """Set up structlog and the standard library's root logger.

    Args:
        level: Name of the least severe level shown.
        log_format: `text` (aligned, coloured on a terminal) or `json` (one object a line).
    """
    renderer: Any
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
        tail = [structlog.processors.format_exc_info, renderer]
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=24,
            # The default prints local variables, and with them users' texts.
            exception_formatter=_traceback,
        )
        tail = [_escape, renderer]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED_PROCESSORS, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[_name_logger, *_SHARED_PROCESSORS, *tail],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


class _Escaped:
    """A value that would do something to the terminal that shows it; the renderer asks for either form."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __str__(self) -> str:
        return _escaped(self._value)

    def __repr__(self) -> str:
        return repr(self._value)


def _escape(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Let no value reach a terminal that it does not print: callers choose some of them, paths before all."""
    for name, value in event.items():
        if name not in _TRACEBACKS and not (isinstance(value, str) and value.isprintable()):
            shown = value if isinstance(value, str) else repr(value)
            if not shown.isprintable():
                event[name] = _Escaped(shown)
    return event


def _traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    whole = StringIO()
    structlog.dev.plain_traceback(whole, exc_info)
    out.write(_escaped(whole.getvalue()))


def _escaped(text: str) -> str:
    """The text with its own line ends and tabs, and nothing else that is not printable."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def _name_logger(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Call our loggers' names what foreign records call theirs; `get_logger` itself has an argument of that name."""
    event["logger"] = event.pop("source")
    return event


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry `name`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(source=name)
    return logger
