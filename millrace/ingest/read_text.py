"""Text and Markdown files: a document each, or several where they are to be split."""

import re
from collections.abc import Iterable, Iterator

from millrace.ingest.documents import LONGEST_DOCUMENT_BYTES, Reading, document_line
from millrace.ingest.problems import InputProblem
from millrace.ingest.sources import Source

#: Files of a folder that are read.
TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")

_BLOCK_CHARS = 1 << 16
_BLANK_LINES = re.compile(r"\n[ \t\r\f\v]*\n\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n")
_SPACE = re.compile(r"\s")
_HEADING = re.compile(r"#{1,6} .*\Z")


def read_text(source: Source, reading: Reading) -> Iterator[bytes]:
    """The file as one document with its path as id, or its pieces, with `#0`, `#1` ... after it. Blank files have none.

    Raises:
        InputProblem: It is too long for one document.
    """
    with source.text(reading.encoding) as file:
        if reading.chunk_chars is None:
            text = file.read(LONGEST_DOCUMENT_BYTES)
            if file.read(1):
                raise InputProblem(f"{source.name} is too long for one document; split it with --chunk-chars")
            if text.strip():
                yield document_line({"id": source.id, "text": text})
        else:
            for number, piece in enumerate(chunks(iter(lambda: file.read(_BLOCK_CHARS), ""), reading.chunk_chars)):
                yield document_line({"id": f"{source.id}#{number}", "text": piece})


def chunks(blocks: Iterable[str], limit: int) -> Iterator[str]:
    """A text in pieces of at most `limit` characters: as many whole paragraphs as fit.

    A longer paragraph is cut behind a sentence, or else between words. A heading stays with what follows it.

    Args:
        blocks: The text, in any parts.
        limit: In characters.
    """
    held: list[str] = []
    length = 0  # of the held paragraphs, with an empty line behind each
    for paragraph in _paragraphs(blocks, limit):
        if length + len(paragraph) > limit:
            heading = _heading(held)
            yield from _joined(held[: len(held) - len(heading)])
            if _length(heading) + len(paragraph) > limit:
                yield from _joined(heading)
                heading = []
            held, length = heading, _length(heading)
        held.append(paragraph)
        length += len(paragraph) + 2
    yield from _joined(held)


def _joined(paragraphs: list[str]) -> list[str]:
    return ["\n\n".join(paragraphs)] if paragraphs else []


def _length(paragraphs: list[str]) -> int:
    return sum(len(paragraph) + 2 for paragraph in paragraphs)


def _heading(paragraphs: list[str]) -> list[str]:
    """The headings at the end."""
    start = len(paragraphs)
    while start and _HEADING.match(paragraphs[start - 1]):
        start -= 1
    return paragraphs[start:]


def _paragraphs(blocks: Iterable[str], limit: int) -> Iterator[str]:
    """What blank lines part, none longer than `limit`, in constant memory."""
    rest = ""
    for block in blocks:
        *whole, rest = _BLANK_LINES.split(rest + block)
        for paragraph in whole:
            pieces, end = _cut(paragraph, limit)
            yield from filter(None, [*pieces, end.rstrip()])
        pieces, rest = _cut(rest, limit)
        yield from pieces
    yield from filter(None, [rest.strip()])


def _cut(text: str, limit: int) -> tuple[list[str], str]:
    """Pieces of at most `limit` characters off the front of a text, and what is left, which is no longer."""
    rest, pieces = text.lstrip(), []
    while len(rest.rstrip()) > limit:
        window, half = rest[: limit + 1], limit // 2
        sentences = [match.start() for match in _SENTENCE_END.finditer(window, half)]
        words = [match.start() for match in _SPACE.finditer(window, half)]
        end = sentences[-1] if sentences else words[-1] if words else limit
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return pieces, rest
