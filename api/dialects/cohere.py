"""Cohere-style rerank: `/v1/rerank` with `documents`, what Cohere, Jina, Open WebUI and LiteLLM send."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from api import wire
from api.dialect import Context, Dialect, Job, Route, View
from shared.errors import MillraceError
from shared.jobs import RerankRequest
from shared.queues import Operation
from shared.results import Output


class DocumentText(BaseModel):
    """A document as an object."""

    text: str


class RerankBody(BaseModel):
    """Request of `POST /v1/rerank`."""

    query: str
    documents: list[str | DocumentText]
    model: str | None = Field(None, description="Name of the model; the default reranker when absent.")
    top_n: int | None = Field(None, description="Return only the best so many; null, 0 or too many mean all.")
    instruction: str | None = Field(None, description="The task in words, for models whose template takes it.")
    return_documents: bool | None = Field(False, description="Repeat each document in its result.")


class RerankResult(BaseModel):
    """One scored document."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class Usage(BaseModel):
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """Response of `POST /v1/rerank`: the superset that Cohere's, Jina's and vLLM's clients read."""

    id: str
    object: Literal["rerank"] = "rerank"
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: dict[str, Any]


def _route(path: str) -> Route:
    return Route(
        path=path,
        operation=Operation.RERANK,
        body=RerankBody,
        response=RerankResponse,
        summary="Score documents against a query (Cohere, Jina, vLLM)",
        example={
            "query": "How is the weather?",
            "documents": ["It's so sunny outside!", "He drove to the stadium."],
            "top_n": 1,
        },
    )


class Cohere:
    """Cohere's words."""

    name = "cohere"
    routes: Sequence[Route] = (_route("/v1/rerank"), _route("/v2/rerank"), _route("/rerank"))
    views: Sequence[View] = ()

    def claims(self, body: Mapping[str, Any]) -> bool:
        """A body with `documents`."""
        return "documents" in body

    def parse(self, route: Route, body: RerankBody, context: Context) -> Job:  # noqa: ARG002
        """Read a rerank request."""
        wire.refuse_empty([body.query], "query")
        wire.refuse_empty(_texts(body), "documents")
        request = RerankRequest(
            request_id=context.request_id,
            deadline=context.deadline,
            query=body.query,
            documents=_texts(body),
            instruction=body.instruction,
        )
        return Job(model=body.model, request=request)

    def render(self, route: Route, body: RerankBody, output: Output, model: str) -> bytes:  # noqa: ARG002
        """Results best first."""
        texts = _texts(body)
        results: list[dict[str, Any]] = []
        for index, score in wire.ranking(wire.rows(output), body.top_n):
            result: dict[str, Any] = {"index": index, "relevance_score": score}
            if body.return_documents:
                result["document"] = {"text": texts[index]}
            results.append(result)
        return wire.dumps(
            {
                "id": wire.identifier("rerank"),
                "object": "rerank",
                "model": body.model or model,
                "results": results,
                "usage": {"prompt_tokens": output.tokens, "total_tokens": output.tokens},
                "meta": {
                    "api_version": {"version": "2"},
                    "billed_units": {"search_units": 1},
                    "tokens": {"input_tokens": output.tokens},
                },
            }
        )

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """OpenAI's nested error object with Cohere's `message` and Jina's `detail` beside it."""
        return error.status, wire.nested_error(error)


def _texts(body: RerankBody) -> list[str]:
    return [document if isinstance(document, str) else document.text for document in body.documents]


PLUGIN: Dialect = Cohere()
