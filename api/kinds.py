"""Several kinds of vectors in one answer: which models make them, and where they are among the outputs.

A model like bge-m3 makes all kinds in one pass over the text. Where no served model does, several share the work.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from api import wire
from api.dialect import Context, Job
from api.places import Place
from shared import arrays
from shared.jobs import EmbedRequest
from shared.results import Kind, Output

Sparse = tuple[arrays.Int32Array, wire.Float32Array]


def hybrid_job(
    model: str | None,
    kinds: Sequence[Kind],
    texts: Sequence[str],
    context: Context,
    *,
    place: Place,
    dimensions: int | None = None,
    **options: Any,
) -> Job:
    """A job for vectors of these kinds: one request where one model makes them all, else one for each model.

    Args:
        model: The model that the caller named; then it makes all of them or the request is refused.
        kinds: What is wanted, at least one.
        texts: The inputs.
        context: Of the request.
        place: Of the inputs in the body.
        dimensions: Of dense vectors; None for all.
        **options: Further fields of `EmbedRequest`.
    """
    shares = {model: list(kinds)} if model else context.catalog.makers(kinds)
    requests = [
        EmbedRequest(
            request_id=context.request_id,
            deadline=context.deadline,
            texts=texts,
            kinds=share,
            dimensions=dimensions if Kind.DENSE in share else None,
            **options,
        )
        for share in shares.values()
    ]
    return Job(model=model, requests=requests, place=place, models=list(shares))


class Vectors:
    """The vectors of some outputs by kind, whichever model made them."""

    def __init__(self, models: Sequence[str], outputs: Sequence[Output]) -> None:
        made = zip(models, outputs, strict=True)
        self._outputs = [(kind, model, output) for model, output in made for kind in _kinds(output)]

    def model(self, kind: Kind) -> str | None:
        """The own name of the model that made this kind; None where nobody did."""
        return next((model for made, model, _ in self._outputs if made == kind), None)

    @cached_property
    def dense(self) -> wire.Float32Array | None:
        """Dense vectors, one row an input."""
        output = self._output(Kind.DENSE)
        return arrays.rows(output) if output is not None else None

    @cached_property
    def sparse(self) -> list[Sparse] | None:
        """For each input entries of the vocabulary and their weights, both of shape (entries,)."""
        output = self._output(Kind.SPARSE)
        if output is None:
            return None
        return [(indices, weights[:, 0]) for indices, weights in arrays.sparse_rows(output)]

    @cached_property
    def multivector(self) -> list[wire.Float32Array] | None:
        """For each input a vector for each token, shape (tokens, width)."""
        output = self._output(Kind.MULTIVECTOR)
        return arrays.token_rows(output) if output is not None else None

    def _output(self, kind: Kind) -> Output | None:
        return next((output for made, _, output in self._outputs if made == kind), None)


def _kinds(output: Output) -> list[Kind]:
    present = {
        Kind.DENSE: bool(output.data),
        Kind.SPARSE: output.sparse is not None,
        Kind.MULTIVECTOR: output.multivector is not None,
    }
    return [kind for kind, is_present in present.items() if is_present]
