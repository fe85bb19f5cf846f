"""Qdrant's inference client: with `inference.address` set to `/qdrant/inference`, Qdrant embeds what it stores and is asked.

Of one text it may want several kinds of vectors, of several models, in one request: what one model can do in one pass is one
request of ours. Qdrant documents this interface for its cloud only; the shapes are those of its source,
`src/common/inference/service.rs`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from api import wire
from api.dialect import Answer, Context, Dialect, Job, Route, View
from api.error_bodies import FlatError
from api.fields import Documented, RequestFields, Several, SomeDimensions
from api.kinds import Vectors
from shared.errors import ContradictoryFields, EmptyInput, InvalidRequest, MillraceError
from shared.jobs import EmbedRequest
from shared.queues import Operation
from shared.results import Kind

#: Qdrant's words for what an input is for, by ours for what it is.
_INPUT_TYPES = {"search": "query", "update": "document"}


class InferenceOptions(RequestFields):
    """Options of an input; keys of other providers are ignored."""

    kind: Literal["dense", "sparse", "multivector"] | None = Field(
        None, description="Which of the model's kinds of vectors; when absent dense ones, or those that it makes."
    )
    mrl: SomeDimensions | None = Field(
        None, description="Keep the first so many dimensions, as Qdrant's cloud calls it."
    )
    dimensions: SomeDimensions | None = Field(None, description="The same.")


class InferenceInput(RequestFields):
    """One input that wants one vector."""

    data: Annotated[Any, WithJsonSchema({"type": "string", "minLength": 1})] = Field(
        description="A text; or of an image a URL, a data URI or base64."
    )
    data_type: Annotated[Literal["text", "image", "object"] | None, Documented(enum=["text", "image", None])] = Field(
        "text", description="What `data` is."
    )
    model: str = Field(description="Name of the model.")
    options: InferenceOptions | None = Field(None, description="What kind of vector, and how long.")


class InferenceBody(RequestFields):
    """Request of `POST /qdrant/inference`."""

    inputs: Several[InferenceInput] = Field(description="What wants vectors.")
    inference: Literal["update", "search"] | None = Field(
        None, description="Whether the inputs are stored (default) or searched for: chooses the model's prompt."
    )


class SparseVector(BaseModel):
    """A sparse vector."""

    indices: list[int]
    values: list[float]


class ModelUsage(BaseModel):
    """What a model read."""

    tokens: int


class InferenceUsage(BaseModel):
    """What the models read, by the names that were asked for."""

    models: dict[str, ModelUsage]


class InferenceResponse(BaseModel):
    """Response of `POST /qdrant/inference`."""

    embeddings: list[list[float] | SparseVector | list[list[float]]]
    usage: InferenceUsage


@dataclass(slots=True)
class _Pass:
    """Inputs of one model that want the same of it."""

    model: str
    dimensions: int | None
    is_image: bool
    #: Kinds by name; None is the model's own choice.
    wanted: frozenset[str | None]
    #: Without repetition, in order.
    data: dict[str, int] = field(default_factory=dict)


def _passes(body: InferenceBody) -> tuple[list[_Pass], list[tuple[int, int]]]:
    """The passes that a request takes, and for each input the number of its pass and its position in that."""
    keys = [_key(entry) for entry in body.inputs]
    wanted: dict[tuple[Any, ...], set[str | None]] = defaultdict(set)
    for key, entry in zip(keys, body.inputs, strict=True):
        wanted[key].add(entry.options.kind if entry.options else None)
    passes: list[_Pass] = []
    numbers: dict[tuple[Any, ...], int] = {}
    places: list[tuple[int, int]] = []
    for key in keys:
        *options, data = key
        number = numbers.setdefault((*options, frozenset(wanted[key])), len(passes))
        if number == len(passes):
            passes.append(_Pass(*key[:-1], frozenset(wanted[key])))
        places.append((number, passes[number].data.setdefault(data, len(passes[number].data))))
    return passes, places


def _key(entry: InferenceInput) -> tuple[str, int | None, bool, str]:
    options = entry.options or InferenceOptions()
    return entry.model, options.dimensions or options.mrl, entry.data_type == "image", entry.data


def _parse(body: InferenceBody, context: Context) -> Job:
    _check(body)
    passes, places = _passes(body)
    if len(passes) > 1 and any(one.is_image for one in passes):
        raise ContradictoryFields(
            "images take a request of their own, for one model and one kind of vectors", param="inputs"
        )
    requests = [
        EmbedRequest(
            request_id=context.request_id,
            deadline=context.deadline,
            texts=[""] * len(one.data) if one.is_image else list(one.data),
            dimensions=one.dimensions,
            kinds=_kinds(one, context),
            input_type=_INPUT_TYPES[body.inference or "update"],
        )
        for one in passes
    ]
    images = list(passes[0].data) if passes[0].is_image else None
    return Job(
        model=None,
        requests=requests,
        place=lambda number, index: f"inputs[{places.index((number, index))}].data",
        images=images,
        models=[one.model for one in passes],
    )


def _check(body: InferenceBody) -> None:
    if not body.inputs:
        raise EmptyInput("`inputs` cannot be empty", param="inputs")
    for index, entry in enumerate(body.inputs):
        if entry.data_type == "object" or not isinstance(entry.data, str):
            raise InvalidRequest(f"`inputs[{index}].data` is not a text or an image (a URL or base64)", param="inputs")
        if not entry.data:
            raise EmptyInput(f"`inputs[{index}].data` cannot be empty", param="inputs")


def _kinds(one: _Pass, context: Context) -> list[Kind]:
    makes = context.catalog.kinds(one.model)
    own = Kind.DENSE if Kind.DENSE in makes or not makes else makes[0]
    wanted = {own if name is None else Kind(name) for name in one.wanted}
    return [kind for kind in Kind if kind in wanted]


def _render(body: InferenceBody, answer: Answer) -> Any:
    passes, places = _passes(body)
    tokens: dict[str, int] = defaultdict(int)
    for one, output in zip(passes, answer.outputs, strict=True):
        tokens[one.model] += output.tokens
    made = [Vectors([model], [output]) for model, output in zip(answer.models, answer.outputs, strict=True)]
    embeddings = [
        _vector(made[number], entry.options.kind if entry.options else None, position)
        for entry, (number, position) in zip(body.inputs, places, strict=True)
    ]
    return {"embeddings": embeddings, "usage": {"models": {model: {"tokens": n} for model, n in tokens.items()}}}


def _vector(vectors: Vectors, kind: str | None, position: int) -> Any:
    """One vector of a kind; without one the dense one, or what there is."""
    if vectors.dense is not None and kind in (None, Kind.DENSE):
        return vectors.dense[position]
    if vectors.sparse is not None and kind in (None, Kind.SPARSE):
        indices, values = vectors.sparse[position]
        return {"indices": indices, "values": values}
    return vectors.multivector[position] if vectors.multivector is not None else None


class Qdrant:
    """Qdrant's words."""

    name = "qdrant"
    prefix: str | None = None
    error_body: type[BaseModel] = FlatError
    routes: Sequence[Route] = (
        Route(
            paths=("/qdrant/inference",),
            operation=Operation.EMBED,
            body=InferenceBody,
            response=InferenceResponse,
            summary="Vectors of texts and images for Qdrant",
            example={
                "inputs": [{"data": "The weather is lovely today.", "data_type": "text", "model": "all-MiniLM-L6-v2"}],
                "inference": "update",
            },
            parse=_parse,
            render=_render,
            inputs=("inputs",),
            repeats=True,
        ),
    )
    views: Sequence[View] = ()

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """An object whose `error` is a string: what Qdrant shows of a 400."""
        return error.status, wire.flat_error(error)


PLUGIN: Dialect = Qdrant()
