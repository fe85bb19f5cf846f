"""Infinity: under `/infinity` its rerank with documents as strings, its `/classify`, and embeddings."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import embeddings, reranking, wire
from api.dialect import EMBEDDINGS_PATHS, RERANK_PATHS, Answer, Context, Dialect, Job, Route, View, led_by
from api.fields import Text, Texts
from api.places import listed
from api.reranking import RerankBody, returned_text
from api.truncation import TruncationFields
from shared.jobs import ClassifyRequest
from shared.queues import Operation


class InfinityResult(BaseModel):
    """One scored document."""

    relevance_score: float
    index: int
    document: str | None = None


class InfinityRerankResponse(BaseModel):
    """Response of `POST /infinity/rerank`."""

    object: Literal["rerank"] = "rerank"
    results: list[InfinityResult]
    model: str
    usage: wire.Usage
    id: str
    created: int


class ClassifyBody(TruncationFields):
    """Request of `POST /infinity/classify`."""

    input: Text | Texts = Field(description="One text or a list of texts.")
    model: str | None = Field(None, description="Name of the model; the first classifier when absent.")
    raw_scores: bool | None = Field(None, description="Logits instead of probabilities.")


class ScoredLabel(BaseModel):
    """One label with its score."""

    score: float
    label: str


class ClassifyResponse(BaseModel):
    """Response of `POST /infinity/classify`: the labels of each text, best first."""

    object: Literal["classify"] = "classify"
    data: list[list[ScoredLabel]]
    model: str
    usage: wire.Usage
    id: str
    created: int


def _render_rerank(body: RerankBody, answer: Answer) -> Any:
    """Results best first, documents as strings."""
    returned = returned_text if body.return_documents else None
    return {
        **wire.envelope("infinity", "rerank", body.model or answer.model, answer.tokens),
        "results": reranking.results(body, answer, best=body.top_n, returned=returned),
    }


def _parse_classify(body: ClassifyBody, context: Context) -> Job:
    texts = [body.input] if isinstance(body.input, str) else body.input
    wire.refuse_empty(texts, "input")
    request = ClassifyRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=texts,
        raw_scores=bool(body.raw_scores),
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("input", body.input))


def _render_classify(body: ClassifyBody, answer: Answer) -> Any:
    return {
        **wire.envelope("infinity", "classify", body.model or answer.model, answer.tokens),
        "data": wire.labels(answer.output),
    }


class Infinity(wire.NestedErrors):
    """Infinity's words."""

    name = "infinity"
    prefix: str | None = "infinity"
    routes: Sequence[Route] = (
        embeddings.own_route(
            "Embed texts or images (Infinity)",
            {"input": ["The weather is lovely today."], "modality": "text"},
            paths=led_by("/embeddings", EMBEDDINGS_PATHS),
        ),
        Route(
            paths=led_by("/rerank", RERANK_PATHS),
            operation=Operation.RERANK,
            body=RerankBody,
            response=InfinityRerankResponse,
            summary="Score documents against a query (Infinity)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
                "return_documents": True,
            },
            parse=reranking.parse,
            render=_render_rerank,
            inputs=("documents",),
            prefix_only=True,
        ),
        Route(
            paths=("/classify", "/v1/classify"),
            operation=Operation.CLASSIFY,
            body=ClassifyBody,
            response=ClassifyResponse,
            summary="Scores of a classifier's labels (Infinity)",
            example={"input": ["I like this.", "I hate this."]},
            parse=_parse_classify,
            render=_render_classify,
            prefix_only=True,
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Infinity()
