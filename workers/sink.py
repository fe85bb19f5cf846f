"""What a sink is: it takes a segment's results, or word of how a job ended, to where the job wants them.

A delivery may come twice, and late: a sink writes so that the second time changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared import arrays
from shared.bulk.events import Event
from shared.bulk.jobs import Job
from shared.bulk.results import SegmentResults
from shared.bulk.sending import Answer
from shared.bulk.table import Segment
from shared.model_config import ConfigurationError
from shared.results import Precision


class Verdict(Enum):
    """What becomes of an event whose delivery failed."""

    RETRY = auto()  # it is tried again, as long as there are attempts left
    GIVE_UP = auto()  # trying again would fail in the same way
    GONE = auto()  # the receiver wants nothing any more


class DeliveryFailed(Exception):
    """A delivery did not work.

    Args:
        reason: One sentence that a caller may read: no address of the operator's, no secret.
        verdict: What becomes of the event.
        status: HTTP status, where there was an answer.
        retry_after_s: Seconds after which the receiver wants the next attempt.
    """

    def __init__(
        self,
        reason: str,
        *,
        verdict: Verdict = Verdict.RETRY,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.reason = reason
        self.verdict = verdict
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Document:
    """A document with its vectors, as sinks that are databases want them."""

    #: Its own id, or its index in the job where it has none.
    id: str
    metadata: Any = None
    dense: npt.NDArray[Any] | None = None
    #: Entries of the vocabulary and their weights.
    sparse: tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]] | None = None
    #: Shape (tokens, width).
    multivector: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Parcel:
    """What is delivered."""

    event: Event
    job: Job
    #: None when the event is about the whole job.
    segment: Segment | None
    #: Reads the segment's results from the store.
    read: Callable[[], SegmentResults]

    @cached_property
    def results(self) -> SegmentResults:
        """The segment's results."""
        return self.read()

    def documents(self) -> list[Document]:
        """The segment's documents that have vectors; those with errors have none.

        Raises:
            DeliveryFailed: The vectors are bits, which are no numbers.
        """
        if self.results.precision in (Precision.BINARY, Precision.UBINARY):
            raise DeliveryFailed(
                f"the sink takes numbers, and precision {self.results.precision} has none", verdict=Verdict.GIVE_UP
            )
        return documents(self.results)


def documents(results: SegmentResults) -> list[Document]:
    """The documents of a segment that have vectors, in order."""
    found: dict[int, Document] = {}
    for part in results.parts:
        output = part.output
        dense = arrays.dense_rows(output, results.precision) if output.data or output.quantized else None
        sparse = arrays.sparse_rows(output) if output.sparse is not None else None
        tokens = arrays.token_rows(output) if output.multivector is not None else None
        for row, place in enumerate(part.places):
            own_id = results.ids[place]
            found[place] = Document(
                id=str(results.first + place if own_id is None else own_id),
                metadata=results.metadata.get(place),
                dense=None if dense is None else dense[row],
                sparse=None if sparse is None else (sparse[row][0], sparse[row][1].ravel()),
                multivector=None if tokens is None else tokens[row],
            )
    return [found[place] for place in sorted(found) if place not in results.errors]


@dataclass(frozen=True, slots=True)
class Tools:
    """What sinks are given beside their options."""

    #: Posts a body to a URL that a caller may have named; raises `shared.bulk.sending.NotSent`.
    post: Callable[[str, bytes, Mapping[str, str]], Answer]
    #: Largest body of a callback.
    body_bytes: int
    #: This service as receivers reach it.
    public_url: str


class OpenSink(Protocol):
    """A sink with its options, used by several threads."""

    def deliver(self, parcel: Parcel) -> int | None:
        """Take a parcel to its place; the HTTP status, where there is one.

        Raises:
            DeliveryFailed: It could not be.
        """
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


class Sink(Protocol):
    """A kind of sink: a file in `workers/sinks/`."""

    #: `type` in `sinks.yaml`.
    name: str
    #: Options that callers may set where the operator has not; their values are texts.
    caller_options: frozenset[str]
    #: Whether it takes vectors of bits, which are no numbers.
    takes_bits: bool

    def open(self, options: Mapping[str, Any], tools: Tools) -> OpenSink:
        """A sink with these options; nothing is connected to yet.

        Raises:
            ConfigurationError: An option is missing or wrong, or a package is not installed.
        """
        ...


def option(options: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """An option of a sink.

    Raises:
        ConfigurationError: It has no value and no default, or a value of another type.
    """
    value = options.get(name, default)
    if value is None:
        raise ConfigurationError(f"it needs the option `{name}`")
    if not isinstance(value, kind):
        raise ConfigurationError(f"its option `{name}` must be a {kind.__name__}")
    return value
