"""By what a model's vectors are compared: `similarity_fn_name` of sentence-transformers' files, as a card's `scoring`."""

from typing import Literal

from shared.queues import Operation

#: What a folder names, where vectors need not have unit length.
_SCORINGS: dict[str, Literal["cosine", "dot"]] = {"cosine": "cosine", "dot": "dot"}
#: Of unit vectors, the dot product is the cosine, and whoever is near is so by the angle.
_OF_UNIT_VECTORS: dict[str, Literal["cosine", "dot"]] = dict.fromkeys(("cosine", "dot", "euclidean"), "cosine")


def scoring_of(similarity: str, *, unit: bool) -> Literal["cosine", "dot"] | None:
    """How documents are scored; None for a distance, which has no score here.

    Args:
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        unit: Whether the model's vectors have unit length.
    """
    return (_OF_UNIT_VECTORS if unit else _SCORINGS).get(similarity)


def dense_scoring(
    similarity: str, last_module: str, truncate_dim: int | None
) -> tuple[Literal["cosine", "dot"] | None, bool]:
    """How documents are scored by dense vectors, and whether a `Normalize` at the end is part of that.

    Args:
        similarity: As `scoring_of` has it.
        last_module: Class name of the folder's last module.
        truncate_dim: How many components are kept, after all modules.
    """
    normalizes = last_module == "Normalize"
    scoring = scoring_of(similarity, unit=normalizes and truncate_dim is None)
    # What is left of a unit vector has the length that the reference's dot products count.
    return scoring, normalizes and scoring == "dot"


def operations_of(scoring: str | None) -> list[Operation]:
    """What a model of vectors does: it ranks documents where they have a score."""
    return [Operation.EMBED] if scoring is None else [Operation.EMBED, Operation.RERANK]
