"""An uploaded file into the store as it arrives, in constant memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from shared.bulk.store import BLOCK_BYTES, Store
from shared.errors import BodyTooLarge, StorageFull


class FileWriter:
    """One file that is being received."""

    def __init__(self, file: IO[bytes] | None, *, most_bytes: int, room_bytes: int | None) -> None:
        self.size = 0
        self._file = file
        self._most_bytes = most_bytes
        self._room_bytes = room_bytes
        self._waiting = bytearray()

    async def write(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            BodyTooLarge: The file is larger than allowed.
            StorageFull: The store has no room for it.
        """
        self.size += len(piece)
        if self.size > self._most_bytes:
            raise BodyTooLarge(
                f"the file exceeds {self._most_bytes} bytes; split it or raise MILLRACE_FILE_LIMIT_BYTES", param="file"
            )
        if self._room_bytes is not None and self.size > self._room_bytes:
            raise StorageFull(
                f"the store's quota has room for {self._room_bytes:,} more bytes; delete jobs and files or raise it"
            )
        self._waiting += piece
        if len(self._waiting) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Hand on what waits."""
        waiting, self._waiting = bytes(self._waiting), bytearray()
        if self._file is not None:
            await asyncio.to_thread(self._file.write, waiting)


@asynccontextmanager
async def file_writer(
    store: Store, path: str, *, most_bytes: int, room_bytes: int | None, is_kept: bool = True
) -> AsyncIterator[FileWriter]:
    """A file to be received; it appears in the store when the block ends without an error.

    Args:
        store: Where it goes.
        path: Its place there.
        most_bytes: Largest file.
        room_bytes: What may still be stored; None for any size.
        is_kept: False to measure it only, and store nothing.
    """
    if not is_kept:
        yield FileWriter(None, most_bytes=most_bytes, room_bytes=room_bytes)
        return
    opened = store.writer(path)
    writer = FileWriter(await asyncio.to_thread(opened.__enter__), most_bytes=most_bytes, room_bytes=room_bytes)
    try:
        yield writer
        await writer.flush()
    except BaseException as err:
        # Not in a thread: this may be a cancellation, which waits for nothing.
        opened.__exit__(type(err), err, err.__traceback__)
        raise
    await asyncio.to_thread(opened.__exit__, None, None, None)
