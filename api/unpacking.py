"""Bodies that come compressed: read as they arrive, however much there is in them."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

from shared.errors import InvalidRequest, UnsupportedMediaType

#: What gzip's data begin with, and no JSON does.
GZIP_MAGIC = b"\x1f\x8b"
#: Most bytes that are handed on at a time: what is made of them has to be done before others get their turn.
TURN_BYTES = 64 * 1024
#: Most bytes that the decompressor is given at a time: it copies what follows the end of a member.
_STEP_BYTES = 16 * 1024
#: Of zlib: the format is gzip.
_GZIP = 31


def is_packed(encoding: str) -> bool:
    """Whether a body is compressed.

    Args:
        encoding: What its `content-encoding` says; empty where there is none.

    Raises:
        UnsupportedMediaType: It is, in another way than gzip.
    """
    named = encoding.strip().lower()
    if named not in ("", "identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(
            f"`content-encoding` must be gzip or absent, not {named[:40]!r}", param="content-encoding"
        )
    return named.endswith("gzip")


async def gunzipped(pieces: AsyncIterator[bytes], turn: Callable[[], Awaitable[None]]) -> AsyncIterator[bytes]:
    """The content of gzip's data, of which there may be several one after the other, as `cat` makes them.

    A small body may hold gigabytes: others have their turn after each `TURN_BYTES` of them.

    Args:
        pieces: The data as they arrive.
        turn: Lets others have their turn.

    Raises:
        InvalidRequest: They are no gzip, or not all of it.
    """
    member = zlib.decompressobj(_GZIP)
    try:
        async for piece in pieces:
            for start in range(0, len(piece), _STEP_BYTES):
                rest, made = piece[start : start + _STEP_BYTES], b""
                # What was made as long as it may be has perhaps more to it, though all input is taken.
                while rest or len(made) == TURN_BYTES:
                    if member.eof:
                        rest = rest.lstrip(b"\0")
                        if not rest:
                            break
                        member = zlib.decompressobj(_GZIP)
                    made = member.decompress(rest, TURN_BYTES)
                    rest = member.unused_data if member.eof else member.unconsumed_tail
                    if made:
                        yield made
                    await turn()
    except zlib.error as err:
        raise InvalidRequest("the body is not gzip, as it should be, or is damaged") from err
    if not member.eof:
        raise InvalidRequest("the gzip data of the body end too early")
