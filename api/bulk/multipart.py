"""Forms that are read as they arrive: `multipart/form-data` in constant memory, whatever the size of its files."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of one part of a form."""

    name: str
    #: What a file is called; None for a field.
    filename: str | None


async def read_form(stream: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Part | bytes]:
    """The parts of a form, each followed by the pieces of its content.

    Args:
        stream: The body.
        content_type: The request's header of this name.

    Raises:
        InvalidRequest: It is no form, or a part has no name, or the form has no end.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest("the body must be multipart/form-data with a boundary")
    events = _Events()
    try:
        parser = MultipartParser(options[b"boundary"], events.callbacks())
        async for chunk in stream:
            parser.write(chunk)
            for event in events.taken():
                yield event
    except FormParserError as err:
        raise InvalidRequest(f"the form cannot be read: {err}") from err
    if not events.ended:
        raise InvalidRequest("the form ends before its last boundary")


class _Events:
    """What the parser has found since it was last asked."""

    def __init__(self) -> None:
        self.ended = False
        self._found: list[Part | bytearray] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> Any:
        """For the parser."""
        return {
            "on_part_begin": self._headers.clear,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def taken(self) -> list[Part | bytes]:
        """What was found; it is handed out once."""
        found, self._found = self._found, []
        return [event if isinstance(event, Part) else bytes(event) for event in found]

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise InvalidRequest("a part of the form has no name")
        filename = options.get(b"filename")
        self._found.append(Part(_text(options[b"name"]), None if filename is None else _text(filename)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        # Put together again: the parser looks for a boundary at each carriage return, and tells of what is between them.
        if not self._found or isinstance(self._found[-1], Part):
            self._found.append(bytearray())
        content = self._found[-1]
        if isinstance(content, bytearray):
            content += memoryview(data)[start:end]

    def _on_end(self) -> None:
        self.ended = True


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
