"""How vectors are written down: their number format, and numbers or base64."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared import arrays
from shared.errors import ContradictoryFields
from shared.results import Output, Precision

#: What clients call number formats; `base64` is float32 in base64.
FormatName = Literal["float", "float32", "float16", "int8", "uint8", "binary", "ubinary", "base64"]


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """One way to write vectors."""

    precision: Precision = Precision.FLOAT32
    #: Little-endian bytes in base64, one string a vector, instead of numbers.
    as_base64: bool = False

    @classmethod
    def named(cls, name: FormatName) -> "VectorFormat":
        """The format that clients call so."""
        if name in ("float", "base64"):
            return cls(as_base64=name == "base64")
        return cls(Precision(name))

    def rows(self, output: Output) -> Sequence[Any]:
        """The dense vectors of an output, in this format, which the request had to ask for."""
        return [
            arrays.base64_vector(row) if self.as_base64 else row for row in arrays.dense_rows(output, self.precision)
        ]

    def token_rows(self, output: Output) -> Sequence[Any]:
        """The multi-vectors of an output: a matrix for each input; in base64 its bytes, row by row."""
        matrices = arrays.token_rows(output)
        return [arrays.base64_vector(matrix) if self.as_base64 else matrix for matrix in matrices]


def refuse_for_multivectors(**given: Any) -> None:
    """Refuse options of dense vectors where a vector for each token is asked for.

    Args:
        **given: What the request says, by field; None where it says nothing.

    Raises:
        ContradictoryFields: It gives one of them.
    """
    for name, value in given.items():
        if value is not None:
            raise ContradictoryFields(
                f"`{name}` is for dense vectors; a vector for each token has no such option", param=name
            )
