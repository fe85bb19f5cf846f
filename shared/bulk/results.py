"""Results of an ingest's segment: packed as they came from the workers, written down as the reader asks for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from shared import arrays
from shared.bulk.jobs import VectorEncoding
from shared.errors import MillraceError, from_wire
from shared.results import Output, Precision, replies_from_wire, replies_to_wire


@dataclass(frozen=True, slots=True)
class Part:
    """What a worker answered for some documents of a segment."""

    #: Their places in the segment, one for each row of the output.
    places: Sequence[int]
    output: Output


@dataclass(slots=True)
class SegmentResults:
    """A document of the segment has a row in one of the parts, or an error."""

    #: Index in the job of the segment's first document.
    first: int
    #: The documents' own ids, None where they have none.
    ids: Sequence[Any]
    #: Their metadata by place, where they have any.
    metadata: Mapping[int, Any] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    errors: dict[int, MillraceError] = field(default_factory=dict)
    precision: Precision = Precision.FLOAT32

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Tokens that the model read."""
        return sum(part.output.tokens for part in self.parts)

    @property
    def vector_bytes(self) -> int:
        """Bytes of the vectors themselves, in the precision that was asked for."""
        outputs = [part.output for part in self.parts]
        dense = sum(len(output.quantized.get(self.precision, output.data)) for output in outputs)
        ragged = [rows for output in outputs for rows in (output.sparse, output.multivector) if rows is not None]
        return dense + sum(len(rows.values) for rows in ragged)

    def pack(self) -> bytes:
        """The results as bytes."""
        packed: bytes = msgpack.packb(
            {
                "first": self.first,
                "ids": list(self.ids),
                "metadata": dict(self.metadata),
                "places": [list(part.places) for part in self.parts],
                "outputs": replies_to_wire([part.output for part in self.parts]),
                "errors": {place: error.to_wire() for place, error in self.errors.items()},
                "precision": str(self.precision),
            }
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "SegmentResults":
        """Read what `pack` wrote."""
        data = msgpack.unpackb(packed, strict_map_key=False)
        outputs = replies_from_wire(data["outputs"])
        return cls(
            first=data["first"],
            ids=data["ids"],
            metadata=data["metadata"],
            parts=[
                Part(places, output)
                for places, output in zip(data["places"], outputs, strict=True)
                if isinstance(output, Output)
            ],
            errors={place: from_wire(error) for place, error in data["errors"].items()},
            precision=Precision(data["precision"]),
        )

    def entries(self, encoding: VectorEncoding = "float", *, start: int = 0) -> Iterator[dict[str, Any]]:
        """One mapping for each document, in order, for `orjson` with `OPT_SERIALIZE_NUMPY` (or msgpack when `binary`).

        `index`, `id`, then `embedding`, `sparse` and `multivector` as the job asked for them, or `error`; `metadata` where
        the document had some.

        Args:
            encoding: How vectors are written down. Sparse vectors are lists of numbers in any case.
            start: Place in the segment to begin at.
        """
        vectors: dict[int, dict[str, Any]] = {}
        for part in self.parts:
            vectors.update(zip(part.places, _written(part.output, self.precision, encoding), strict=True))
        for place in range(start, len(self)):
            entry: dict[str, Any] = {"index": self.first + place, "id": self.ids[place]}
            if place in self.errors:
                error = self.errors[place]
                entry["error"] = {"code": error.code, "message": error.message}
            else:
                entry |= vectors[place]
            if place in self.metadata:
                entry["metadata"] = self.metadata[place]
            yield entry


def _written(output: Output, precision: Precision, encoding: VectorEncoding) -> Iterator[dict[str, Any]]:
    """The vectors of each row, by the names of their kinds."""
    columns: dict[str, Sequence[Any]] = {}
    if output.data or output.quantized:
        columns["embedding"] = [_row(row, encoding) for row in arrays.dense_rows(output, precision)]
    if output.sparse is not None:
        columns["sparse"] = [
            {"indices": indices.tolist(), "values": weights.ravel().tolist()}
            for indices, weights in arrays.sparse_rows(output)
        ]
    if output.multivector is not None:
        columns["multivector"] = [_row(matrix, encoding) for matrix in arrays.token_rows(output)]
    for index in range(output.shape[0]):
        yield {name: rows[index] for name, rows in columns.items()}


def _row(row: Any, encoding: VectorEncoding) -> Any:
    match encoding:
        case "float":
            return row
        case "base64":
            return arrays.base64_vector(row)
        case "binary":
            return row.tobytes()
