"""Bulk jobs with made-up vectors: registered in the job table, their results in a store, as a runner leaves them."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from shared.bulk.jobs import Delivery, Job, JobSpec, Kind, State
from shared.bulk.results import Part, SegmentResults
from shared.bulk.store import Store, output_path
from shared.bulk.table import JobTable, Segment
from shared.errors import InvalidRequest
from shared.results import Output, Precision, Ragged

#: Dimensions of the vectors.
WIDTH = 8


def spec(
    job_id: str = "job_1", *, kind: Kind = Kind.INGEST, delivery: Delivery | None = None, **fields: Any
) -> JobSpec:
    """A job's description."""
    now = time.time()
    return JobSpec(
        id=job_id,
        kind=kind,
        model="org/model",
        delivery=delivery or Delivery(),
        created_at=now,
        expires_at=now + 3600,
        results_ttl_s=3600.0,
        **fields,
    )


def vectors(first: int, count: int, width: int = WIDTH) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The dense vectors of some documents: each its own, the same ones each time."""
    return np.stack(
        [np.random.default_rng(index).standard_normal(width).astype("<f4") for index in range(first, first + count)]
    )


def results(
    first: int, count: int, *, kinds: Sequence[str] = ("dense",), ids: Sequence[Any] | None = None
) -> SegmentResults:
    """A segment's results; the last of several documents has an error."""
    failed = count - 1 if count > 1 else None
    places = [place for place in range(count) if place != failed]
    rows = vectors(first, len(places))
    sparse = multivector = None
    if "sparse" in kinds:
        counts = np.full(len(places), 2, "<i4").tobytes()
        indices = np.tile(np.array([3, 70], "<i4"), len(places)).tobytes()
        sparse = Ragged(counts=counts, values=np.full(2 * len(places), 0.5, "<f4").tobytes(), width=1, indices=indices)
    if "multivector" in kinds:
        counts = np.full(len(places), 3, "<i4").tobytes()
        matrix = np.repeat(rows[:, :4], 3, axis=0)
        multivector = Ragged(counts=counts, values=np.ascontiguousarray(matrix).tobytes(), width=4)
    output = Output(
        shape=rows.shape,
        data=rows.tobytes() if "dense" in kinds else b"",
        tokens=5 * count,
        sparse=sparse,
        multivector=multivector,
    )
    return SegmentResults(
        first=first,
        ids=ids if ids is not None else [f"doc-{first + place}" for place in range(count)],
        metadata={0: {"lang": "en", "page": first}},
        parts=[Part(places, output)],
        errors={} if failed is None else {failed: InvalidRequest("the text is empty")},
        precision=Precision.FLOAT32,
    )


async def add_job(
    table: JobTable,
    store: Store,
    job_spec: JobSpec,
    *,
    segments: int,
    size: int = 4,
    state: State | None = State.COMPLETED,
    **made: Any,
) -> Job:
    """A job whose segments have all been run, brought into `state`; None leaves it in progress."""
    await table.create(job_spec, State.RECEIVING)
    for number in range(segments):
        first = number * size
        await table.append(
            job_spec.id, Segment(number, first, first + size, "abcdefgh"), 100, checksum=0, quota_bytes=0
        )
    await table.enter(job_spec.id, State.IN_PROGRESS, since=[State.RECEIVING], input_complete=True)
    for number in range(segments):
        await run_segment(table, store, job_spec.id, number, size, **made)
    if state is not None:
        await table.enter(job_spec.id, state, since=[State.IN_PROGRESS])
    return await table.get(job_spec.id)


async def run_segment(table: JobTable, store: Store, job_id: str, number: int, size: int = 4, **made: Any) -> None:
    """Store a segment's results and count it."""
    made_results = results(number * size, size, **made)
    packed = made_results.pack()
    store.write(output_path(job_id, number), packed)
    failed = len(made_results.errors)
    await table.complete(
        job_id,
        number,
        completed=size - failed,
        failed=failed,
        tokens=made_results.tokens,
        input_bytes=100,
        result_bytes=len(packed),
        error_bytes=0,
    )
