"""Weaviate's modules `text2vec-transformers` and `reranker-transformers`, which ask an inference container behind a URL."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import schemas, scores, wire
from api.catalog import Catalog
from api.dialect import RERANK_PATHS, Answer, Context, Dialect, Job, Route, View, led_by
from api.error_bodies import FlatError
from api.fields import Dimensions, RequestFields, Several, Text, Texts
from api.places import listed, ranked
from api.settings import ApiSettings
from shared import __version__, arrays
from shared.errors import MillraceError, Unavailable
from shared.jobs import EmbedRequest, RerankRequest
from shared.queues import Operation
from shared.results import Kind

#: Weaviate's words for what a text is, by ours.
_INPUT_TYPES = {"query": "query", "passage": "document"}


class VectorsConfig(RequestFields):
    """How the texts are to be embedded."""

    pooling_strategy: str | None = Field(None, description="Ignored: a model has its own pooling.")
    task_type: Literal["query", "passage", ""] | None = Field(
        None, description="What the texts are, for models that have a prompt for it."
    )
    dimensions: Dimensions | None = Field(None, description="Keep the first so many dimensions; 0 means all.")


class VectorBody(RequestFields):
    """Request of `POST /vectors` for one text."""

    text: Text = Field(description="The text to embed.")
    config: VectorsConfig | None = Field(None, description="How to embed.")


class VectorResponse(BaseModel):
    """Response of `POST /vectors` for one text."""

    text: str
    dims: int
    vector: list[float]


class VectorsBody(RequestFields):
    """Request of `POST /vectors` for several texts."""

    texts: Texts = Field(description="The texts to embed.")
    config: VectorsConfig | None = Field(None, description="How to embed.")


class VectorsResponse(BaseModel):
    """Response of `POST /vectors` for several texts."""

    vectors: list[list[float]]
    dims: int


class RerankBody(RequestFields):
    """Request of `POST /rerank` in Weaviate's words."""

    query: Text = Field(description="What the documents are scored against.")
    documents: Several[str] = Field(description="Texts to score; one may be empty.")
    property: str = Field("", description="Name of the property that is ranked; repeated in the answer.")


class DocumentScore(BaseModel):
    """One scored document."""

    document: str
    score: float


class RerankResponse(BaseModel):
    """Response of `POST /rerank` in Weaviate's words."""

    query: str
    property: str
    scores: list[DocumentScore] = Field(description="In the order of the documents: Weaviate matches them by position.")


class Meta(BaseModel):
    """Response of `GET /meta`: Weaviate shows it among its modules."""

    version: str
    model: str = Field(description="The model that `/vectors` uses.")
    architecture: str | None
    dimensions: Dimensions | None
    max_tokens: int | None
    pooling: str | None
    dtype: str | None


class Empty(BaseModel):
    """Response of the probes: the status says it all."""


def _request(texts: Sequence[str], config: VectorsConfig | None, context: Context) -> EmbedRequest:
    config = config or VectorsConfig()
    return EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=texts,
        dimensions=config.dimensions or None,
        input_type=_INPUT_TYPES.get(config.task_type or ""),
    )


def _parse_vector(body: VectorBody, context: Context) -> Job:
    wire.refuse_empty([body.text], "text")
    return Job(model=None, requests=[_request([body.text], body.config, context)], place=listed("text", body.text))


def _render_vector(body: VectorBody, answer: Answer) -> Any:
    (vector,) = arrays.rows(answer.output)
    return {"text": body.text, "dims": len(vector), "vector": vector}


def _parse_vectors(body: VectorsBody, context: Context) -> Job:
    wire.refuse_empty(body.texts, "texts")
    return Job(model=None, requests=[_request(body.texts, body.config, context)], place=listed("texts"))


def _render_vectors(_: VectorsBody, answer: Answer) -> Any:
    vectors = arrays.rows(answer.output)
    return {"vectors": vectors, "dims": vectors.shape[1]}


def _parse_rerank(body: RerankBody, context: Context) -> Job:
    wire.refuse_empty([body.query], "query")
    # An object without the property is ranked by an empty text.
    wire.refuse_none(body.documents, "documents")
    request = RerankRequest(
        request_id=context.request_id, deadline=context.deadline, query=body.query, documents=body.documents
    )
    return Job(model=None, requests=[request], place=ranked("documents"))


def _render_scores(body: RerankBody, answer: Answer) -> Any:
    return {
        "query": body.query,
        "property": body.property,
        "scores": [
            {"document": text, "score": score}
            for text, score in zip(body.documents, scores.shown(answer.output), strict=True)
        ],
    }


class Weaviate:
    """Weaviate's words."""

    name = "weaviate"
    prefix: str | None = None
    error_body: type[BaseModel] = FlatError
    routes: Sequence[Route] = (
        Route(
            paths=("/vectors",),
            operation=Operation.EMBED,
            body=VectorBody,
            response=VectorResponse,
            summary="Embed a text (Weaviate)",
            example={"text": "The weather is lovely today.", "config": {"task_type": "passage"}},
            parse=_parse_vector,
            render=_render_vector,
            key="text",
        ),
        Route(
            paths=("/vectors",),
            operation=Operation.EMBED,
            body=VectorsBody,
            response=VectorsResponse,
            summary="Embed texts (Weaviate)",
            example={"texts": ["The weather is lovely today.", "He drove to the stadium."]},
            parse=_parse_vectors,
            render=_render_vectors,
            key="texts",
        ),
        Route(
            paths=led_by("/rerank", RERANK_PATHS),
            operation=Operation.RERANK,
            body=RerankBody,
            response=RerankResponse,
            summary="Score documents against a query (Weaviate)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
                "property": "content",
            },
            parse=_parse_rerank,
            render=_render_scores,
            key="documents",
            # Weaviate always names the property and never a model; nobody else knows the word.
            claims=lambda data: "property" in data and "model" not in data,
            claim={"allOf": [schemas.given("property"), {"properties": {"model": {"type": "null"}}}]},
            precedence=20,
        ),
    )

    def __init__(self) -> None:
        self.views: Sequence[View] = (
            View("/meta", "The model (Weaviate)", _meta, response=Meta),
            View("/.well-known/live", "Is this process alive? (Weaviate)", _live, response=Empty),
            View(
                "/.well-known/ready",
                "Can any model be served? (Weaviate)",
                _ready,
                response=Empty,
                errors=(Unavailable,),
            ),
        )

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """An object whose `error` is a string: Weaviate cannot read another."""
        return error.status, wire.flat_error(error)


def _meta(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    cards = [card for config in catalog.models if (card := catalog.card(config.name)) is not None]
    card = next((card for card in cards if Kind.DENSE in card.kinds), None)
    return {
        "version": __version__,
        "model": card.name if card else catalog.models[0].name,
        "architecture": card.architecture if card else None,
        "dimensions": card.dimensions if card else None,
        "max_tokens": card.max_tokens if card else None,
        "pooling": card.pooling if card else None,
        "dtype": card.dtype if card else None,
    }


def _live(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    return {}


def _ready(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    if not catalog.can_serve():
        raise Unavailable(f"no worker has run these models yet: {', '.join(catalog.missing())}")
    return {}


PLUGIN: Dialect = Weaviate()
