"""Cohere: rerank with `documents`, which Jina's, vLLM's and most others' clients send too; `/v1/embed` and `/v2/embed`."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api import reranking, wire
from api.dialect import RERANK_PATHS, Answer, Context, Dialect, Job, Route, View
from api.fields import Dimensions, Listed, RequestFields, Several, SomeTokens, Texts, either
from api.inputs import ContentInput, ImageReference, MixedInput, separated
from api.places import listed
from api.prompts import PurposeName, purpose_of
from api.reranking import RerankBody, RerankResult, returned_object
from api.vector_format import VectorFormat
from shared.errors import InvalidRequest
from shared.jobs import EmbedRequest
from shared.queues import Operation

#: The kinds of embeddings that Cohere knows, and its default.
EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
_DEFAULT_TYPE: EmbeddingType = "float"


class Meta(BaseModel):
    """What Cohere's answers say of themselves; its clients read `billed_units` without asking whether it is there."""

    api_version: dict[str, str]
    billed_units: dict[str, int]
    tokens: dict[str, int]
    warnings: list[str] | None = None


class RerankResponse(BaseModel):
    """Response of `POST /v1/rerank`: the superset that Cohere's, Jina's and vLLM's clients read."""

    id: str
    object: Literal["rerank"] = "rerank"
    created: int
    model: str
    results: list[RerankResult]
    usage: wire.Usage
    meta: Meta


#: The fields of which one has the inputs.
_INPUTS = ("texts", "images", "inputs")


def _only(field: str) -> dict[str, Any]:
    others = {name: {"type": "null"} for name in _INPUTS if name != field}
    return {"required": [field], "properties": {field: {"type": "array"}, **others}}


class EmbedBody(RequestFields):
    """Request of `POST /v2/embed` and `POST /v1/embed`. Unknown fields are ignored, null means absent."""

    model_config = either(*map(_only, _INPUTS))

    texts: Texts | None = Field(None, description="Texts to embed.")
    images: Several[ImageReference] | None = Field(None, description="Or images: data URIs, URLs or base64.")
    inputs: Several[ContentInput] | None = Field(
        None, description="Or inputs made of parts, each of a text, an image or both: `image_url` with a `url`."
    )
    model: str | None = Field(None, description="Name of the model; the default model when absent.")
    input_type: PurposeName | None = Field(
        None,
        description="What the inputs are, for models that have a prompt for it: `search_query`, `search_document`, "
        "`classification`, `clustering` or `image`.",
    )
    embedding_types: Listed[EmbeddingType] | None = Field(
        None,
        description="The formats of the vectors, one or several; `float` when absent. `base64` is little-endian float32.",
    )
    output_dimension: Dimensions | None = Field(
        None, description="Keep the first so many dimensions and normalise again."
    )
    truncate: Literal["NONE", "START", "END"] | None = Field(
        None, description="Which end of an over-long text is cut off (`END` when absent); `NONE` refuses it."
    )
    max_tokens: SomeTokens | None = Field(
        None, description="Most tokens of a text, special ones included, where the model takes more."
    )

    def formats(self) -> dict[str, VectorFormat]:
        """The formats that are asked for, by Cohere's names."""
        return {name: VectorFormat.named(name) for name in self.embedding_types or [_DEFAULT_TYPE]}

    def separated(self) -> tuple[str, list[str], list[str | None] | None]:
        """The field that has the inputs, and their texts and images.

        Raises:
            InvalidRequest: Not exactly one field has inputs.
        """
        given = {name: value for name in _INPUTS if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise InvalidRequest("send exactly one of `texts`, `images` and `inputs`", param=next(iter(given), "texts"))
        (field,) = given
        inputs = [MixedInput(image=image) for image in self.images] if self.images is not None else given[field]
        return field, *separated(inputs, field)


class EmbeddingsByType(BaseModel):
    """Vectors in each of the formats that were asked for."""

    model_config = ConfigDict(populate_by_name=True)

    floats: list[list[float]] | None = Field(None, alias="float")
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class EmbedResponse(BaseModel):
    """Response of `POST /v2/embed`, and of `POST /v1/embed` where it named `embedding_types`."""

    id: str
    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"
    embeddings: EmbeddingsByType
    texts: list[str]
    meta: Meta


class EmbedFloatsResponse(BaseModel):
    """Response of `POST /v1/embed` without `embedding_types`."""

    id: str
    response_type: Literal["embeddings_floats"] = "embeddings_floats"
    embeddings: list[list[float]]
    texts: list[str]
    meta: Meta


def _render_rerank(body: RerankBody, answer: Answer) -> Any:
    """Results best first."""
    returned = returned_object if body.return_documents else None
    return {
        **wire.envelope("rerank", "rerank", body.model or answer.model, answer.tokens),
        "results": reranking.results(body, answer, best=body.top_n, returned=returned),
        "meta": _meta("2", answer, search_units=1),
    }


def _parse_embed(body: EmbedBody, context: Context) -> Job:
    field, texts, images = body.separated()
    wire.refuse_empty(texts, field, images)
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=texts,
        truncate=body.truncate != "NONE",
        max_tokens=body.max_tokens,
        truncation_side="left" if body.truncate == "START" else "right",
        dimensions=body.output_dimension or None,
        precisions=list(dict.fromkeys(form.precision for form in body.formats().values())),
        **purpose_of(body.input_type, "input_type").fields(),
    )
    return Job(model=body.model, requests=[request], place=listed(field), images=images)


def _render_embed(version: Literal["1", "2"], body: EmbedBody, answer: Answer) -> Any:
    """Vectors by their format; version 1 has bare floats where no format was asked for."""
    _, texts, images = body.separated()
    by_type = {name: form.rows(answer.output) for name, form in body.formats().items()}
    is_bare = version == "1" and not body.embedding_types
    pictures = sum(image is not None for image in images or ())
    return {
        "id": answer.request_id,
        "response_type": "embeddings_floats" if is_bare else "embeddings_by_type",
        "embeddings": by_type[_DEFAULT_TYPE] if is_bare else by_type,
        "texts": [text for text in texts if text],
        "meta": _meta(version, answer, input_tokens=answer.tokens, **({"images": pictures} if pictures else {})),
    }


def _meta(version: str, answer: Answer, **billed_units: int) -> dict[str, Any]:
    meta = {
        "api_version": {"version": version},
        "billed_units": billed_units,
        "tokens": {"input_tokens": answer.tokens},
    }
    if cut := sum(output.truncated for output in answer.outputs):
        which = "1 of the inputs was" if cut == 1 else f"{cut} of the inputs were"
        return {**meta, "warnings": [f"{which} longer than the model takes and cut"]}
    return meta


def _embed_route(version: Literal["1", "2"], response: Any) -> Route:
    return Route(
        paths=(f"/v{version}/embed",),
        operation=Operation.EMBED,
        body=EmbedBody,
        response=response,
        summary=f"Embed texts or images (Cohere, version {version})",
        example={
            "texts": ["The weather is lovely today."],
            "input_type": "search_document",
            "embedding_types": ["float", "ubinary"],
        },
        parse=_parse_embed,
        render=partial(_render_embed, version),
    )


class Cohere(wire.NestedErrors):
    """Cohere's words."""

    name = "cohere"
    prefix: str | None = "cohere"
    routes: Sequence[Route] = (
        Route(
            paths=RERANK_PATHS,
            operation=Operation.RERANK,
            body=RerankBody,
            response=RerankResponse,
            summary="Score documents against a query (Cohere, Jina, vLLM)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
                "top_n": 1,
            },
            parse=reranking.parse,
            render=_render_rerank,
            inputs=("documents",),
            key="documents",
        ),
        _embed_route("2", EmbedResponse),
        _embed_route("1", EmbedResponse | EmbedFloatsResponse),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Cohere()
