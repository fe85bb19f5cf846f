"""Voyage: rerank with `top_k` or `truncation`, answered under `data`; under `/voyage` every rerank, and embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import embeddings, reranking, schemas, wire
from api.dialect import RERANK_PATHS, Answer, Context, Dialect, Job, Route, View
from api.fields import Integer
from api.reranking import RerankBody, returned_text
from api.synonyms import agreed
from shared.queues import Operation


class VoyageRerankBody(RerankBody):
    """Request of `POST /v1/rerank` in Voyage's words: with `top_k` or `truncation`, which its client always sends."""

    top_k: Integer | None = Field(None, description="Return only the best so many; null, 0 or too many mean all.")

    def best(self) -> int | None:
        """How many to return.

        Raises:
            InvalidRequest: `top_k` and `top_n` contradict each other.
        """
        return agreed({"top_k": self.top_k, "top_n": self.top_n})


class VoyageResult(BaseModel):
    """One scored document."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageUsage(BaseModel):
    """Tokens that the model read, special tokens included."""

    total_tokens: int


class VoyageRerankResponse(BaseModel):
    """Response of `POST /v1/rerank` in Voyage's words."""

    object: Literal["list"] = "list"
    data: list[VoyageResult]
    model: str
    usage: VoyageUsage


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body with `documents` is Voyage's: `top_k` or `truncation` are, `top_n` is everybody else's."""
    return ("top_k" in body or "truncation" in body) and "top_n" not in body


def _parse_rerank(body: VoyageRerankBody, context: Context) -> Job:
    body.best()  # which may refuse: before anything is scored
    return reranking.parse(body, context)


def _render_rerank(body: VoyageRerankBody, answer: Answer) -> Any:
    """Results best first, under `data`."""
    returned = returned_text if body.return_documents else None
    return {
        "object": "list",
        "data": reranking.results(body, answer, best=body.best(), returned=returned),
        "model": body.model or answer.model,
        "usage": {"total_tokens": answer.tokens},
    }


class Voyage(wire.NestedErrors):
    """Voyage's words."""

    name = "voyage"
    prefix: str | None = "voyage"
    routes: Sequence[Route] = (
        Route(
            paths=RERANK_PATHS,
            operation=Operation.RERANK,
            body=VoyageRerankBody,
            response=VoyageRerankResponse,
            summary="Score documents against a query (Voyage)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
                "top_k": 1,
                "truncation": True,
            },
            parse=_parse_rerank,
            render=_render_rerank,
            inputs=("documents",),
            key="documents",
            claims=claims,
            claim={
                "anyOf": [schemas.given("top_k"), schemas.given("truncation")],
                "properties": {"top_n": {"type": "null"}},
            },
            precedence=10,
        ),
        embeddings.own_route(
            "Embed texts (Voyage)",
            {"input": ["The weather is lovely today."], "input_type": "document", "output_dtype": "int8"},
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Voyage()
