"""Results of an ingest as one long answer: segment by segment from the store, from any document on."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from api import wire
from shared.bulk.jobs import Job, VectorEncoding
from shared.bulk.results import SegmentResults
from shared.bulk.store import Store, output_path
from shared.bulk.table import JobTable, Segments
from shared.errors import NotStored

#: Bytes that are put together before they are sent. A segment of multi-vectors has hundreds of megabytes.
_PIECE_BYTES = 256 * 1024
#: How often one who follows a job is told what is new, in seconds.
_POLL_S = 0.5
#: Silence after which a sign of life is sent, in seconds: what stands between may close a silent connection.
_HEARTBEAT_S = 10.0
#: Of zlib: the format is gzip.
_GZIP = 31


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which results, and how they are written down."""

    #: Index of the first document.
    offset: int
    #: The one after the last.
    end: int
    encoding: VectorEncoding
    #: Wait for more until the job ends.
    follow: bool
    gzip: bool

    def within(self, job: Job, readable: int) -> "Wanted":
        """What of it can be read at once.

        Args:
            job: As it stands.
            readable: Its documents that can be read without a gap.
        """
        # Of a job that has ended nothing more comes, so what lies behind a gap is read too.
        there = job.received if job.state.is_final else readable
        return replace(self, end=max(self.offset, min(self.end, there)))


class ResultStream:
    """Reads the results of jobs."""

    def __init__(self, table: JobTable, store: Store) -> None:
        self._table = table
        self._store = store

    async def pieces(self, job_id: str, wanted: Wanted) -> AsyncIterator[bytes]:
        """The answer's body.

        Args:
            job_id: Of a job that is there.
            wanted: What is read.
        """
        compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP) if wanted.gzip else None
        async for entries in self._segments(job_id, wanted):
            if entries is None:
                yield _sign_of_life(wanted.encoding, compressor)
                continue
            while piece := await asyncio.to_thread(_piece, entries, wanted.encoding, compressor):
                yield piece
        if compressor is not None:
            yield compressor.flush()

    async def _segments(self, job_id: str, wanted: Wanted) -> AsyncIterator[Iterator[dict[str, Any]] | None]:
        """The entries of each segment; None each time that none has come for `_HEARTBEAT_S`."""
        offset, spoke_at = wanted.offset, time.monotonic()
        segments = Segments(b"")
        while offset < wanted.end and (job := await self._table.find(job_id)) is not None:
            done = job.segments if job.state.is_final else await self._table.done_before(job)
            if len(segments) < done:
                segments = await self._table.segments(job_id)
            for number in range(segments.holding(offset), done):
                if offset >= wanted.end:
                    break
                if (results := await self._results(job, number)) is not None:
                    start, stop = offset - results.first, min(len(results), wanted.end - results.first)
                    yield _entries(results, wanted.encoding, start, stop)
                    spoke_at = time.monotonic()
                offset = segments[number].end
            if job.state.is_final or not wanted.follow:
                return
            await asyncio.sleep(_POLL_S)
            if time.monotonic() - spoke_at >= _HEARTBEAT_S:
                yield None
                spoke_at = time.monotonic()

    async def _results(self, job: Job, number: int) -> SegmentResults | None:
        """The results of a segment; None where there are none, because the job ended before or was deleted just now."""
        if job.segments_done < job.segments and not await self._table.is_done(job.id, number):
            return None
        try:
            packed = await asyncio.to_thread(self._store.read, output_path(job.id, number))
        except NotStored:
            return None
        return await asyncio.to_thread(SegmentResults.unpack, packed)


def _entries(results: SegmentResults, encoding: VectorEncoding, start: int, stop: int) -> Iterator[dict[str, Any]]:
    for place, entry in enumerate(results.entries(encoding, start=start), start):
        if place >= stop:
            return
        yield entry


def _piece(entries: Iterator[dict[str, Any]], encoding: VectorEncoding, compressor: Any) -> bytes:
    """The next bytes of a segment, empty at its end."""
    piece = bytearray()
    for entry in entries:
        piece += msgpack.packb(entry) if encoding == "binary" else wire.dumps(entry) + b"\n"
        if len(piece) >= _PIECE_BYTES:
            break
    return _compressed(bytes(piece), compressor)


def _sign_of_life(encoding: VectorEncoding, compressor: Any) -> bytes:
    """What readers pass over: a blank line, or nothing, as msgpack writes it."""
    return _compressed(msgpack.packb(None) if encoding == "binary" else b"\n", compressor)


def _compressed(piece: bytes, compressor: Any) -> bytes:
    if compressor is None or not piece:
        return piece
    # Flushed, so that one who follows the job can read each of them at once.
    return bytes(compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH))
