"""Our own `/v1/hybrid`: dense, sparse and multi-vectors of the same texts in one answer, of one pass where a model can."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import wire
from api.dialect import Answer, Context, Dialect, Job, Route, View
from api.fields import Listed, SomeDimensions, Text, Texts
from api.kinds import Vectors, hybrid_job
from api.places import listed
from api.prompts import PromptFields
from api.truncation import TruncationFields
from api.truncation_warnings import TruncationWarning, truncation_warnings
from shared.queues import Operation
from shared.results import Kind


class HybridBody(TruncationFields, PromptFields):
    """Request of `POST /v1/hybrid`."""

    input: Text | Texts = Field(description="One text or a list of texts.")
    kinds: Listed[Literal["dense", "sparse", "multivector"]] | None = Field(
        None, min_length=1, description="What is wanted; when absent, all that the model (or any served model) makes."
    )
    model: str | None = Field(
        None, description="Name of the model; when absent the one that makes all of it, or for each kind the first."
    )
    dimensions: SomeDimensions | None = Field(None, description="Keep the first so many dimensions of dense vectors.")
    normalize: bool | None = Field(True, description="Scale dense vectors to unit length.")

    def texts(self) -> list[str]:
        """The inputs as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class SparseVector(BaseModel):
    """A sparse vector as Qdrant and Milvus take it."""

    indices: list[int]
    values: list[float]


class HybridVectors(BaseModel):
    """The vectors of one text, of the kinds that were asked for."""

    index: int
    dense: list[float] | None = None
    sparse: SparseVector | None = None
    multivector: list[list[float]] | None = None


class HybridResponse(BaseModel):
    """Response of `POST /v1/hybrid`."""

    object: Literal["list"] = "list"
    data: list[HybridVectors]
    model: str
    models: dict[str, str] = Field(description="The model that made each kind.")
    usage: wire.Usage
    warnings: list[TruncationWarning]


def _parse(body: HybridBody, context: Context) -> Job:
    wire.refuse_empty(body.texts(), "input")
    # Nobody has said yet what is made here: then the least that an embedding model does.
    served = context.catalog.kinds(body.model) or [Kind.DENSE]
    kinds = [kind for kind in Kind if kind in body.kinds] if body.kinds is not None else served
    return hybrid_job(
        body.model,
        kinds,
        body.texts(),
        context,
        place=listed("input", body.input),
        dimensions=body.dimensions,
        normalize=body.normalize is not False,
        **body.prompting(),
        **body.cutting(),
    )


def _render(body: HybridBody, answer: Answer) -> Any:
    vectors = Vectors(answer.models, answer.outputs)
    dense, sparse, multivector = vectors.dense, vectors.sparse, vectors.multivector
    data: list[dict[str, Any]] = []
    for index in range(len(body.texts())):
        entry: dict[str, Any] = {"index": index}
        if dense is not None:
            entry["dense"] = dense[index]
        if sparse is not None:
            indices, values = sparse[index]
            entry["sparse"] = {"indices": indices, "values": values}
        if multivector is not None:
            entry["multivector"] = multivector[index]
        data.append(entry)
    return {
        "object": "list",
        "data": data,
        "model": body.model or answer.model,
        "models": {str(kind): model for kind in Kind if (model := vectors.model(kind)) is not None},
        "usage": wire.usage(answer.tokens),
        "warnings": truncation_warnings(answer, "input", side=body.truncation_side or "right"),
    }


class Hybrid(wire.NestedErrors):
    """Our own words."""

    name = "hybrid"
    prefix: str | None = None
    routes: Sequence[Route] = (
        Route(
            paths=("/v1/hybrid",),
            operation=Operation.EMBED,
            body=HybridBody,
            response=HybridResponse,
            summary="Dense, sparse and multi-vectors of the same texts",
            example={"input": ["The weather is lovely today."], "kinds": ["dense"]},
            parse=_parse,
            render=_render,
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Hybrid()
