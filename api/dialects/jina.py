"""Jina: zero-shot `/v1/classify` by `labels`; under `/jina` also its rerank, which returns documents unless told not to."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from api import embeddings, reranking, schemas, wire
from api.dialect import RERANK_PATHS, Answer, Context, Dialect, Job, Route, View
from api.fields import Texts
from api.inputs import MixedInputs, separated
from api.prompts import purpose_of
from api.reranking import RerankBody, RerankResult, returned_object
from api.truncation import TruncationFields
from shared import arrays
from shared.jobs import EmbedRequest
from shared.queues import Operation


class RerankResponse(BaseModel):
    """Response of `POST /jina/v1/rerank`."""

    object: Literal["list"] = "list"
    model: str
    usage: wire.Usage
    results: list[RerankResult]


class ClassifyBody(TruncationFields):
    """Request of `POST /v1/classify` with `labels`: which of them an embedding model finds closest to each input."""

    input: MixedInputs = Field(description='Texts, or objects with a "text" or an "image".')
    labels: Texts = Field(description="What the inputs may be.")
    model: str | None = Field(None, description="Name of the model; the default embedding model when absent.")


class Prediction(BaseModel):
    """One label with its score."""

    label: str
    score: float


class Classification(BaseModel):
    """One classified input."""

    object: Literal["classification"] = "classification"
    index: int
    prediction: str
    score: float
    predictions: list[Prediction]


class ClassifyResponse(BaseModel):
    """Response of `POST /v1/classify` with `labels`."""

    data: list[Classification]
    model: str
    usage: wire.Usage


def claims(body: Mapping[str, Any]) -> bool:
    """Whether a body to classify names the labels itself; classifiers have labels of their own."""
    return "labels" in body


def _render_rerank(body: RerankBody, answer: Answer) -> Any:
    """Results best first."""
    returned = None if body.return_documents is False else returned_object
    return {
        **wire.envelope("rerank", "list", body.model or answer.model, answer.tokens),
        "results": reranking.results(body, answer, best=body.top_n, returned=returned),
    }


def _parse_classify(body: ClassifyBody, context: Context) -> Job:
    """Inputs and labels as one request, so that one model embeds both."""
    texts, images = separated(body.input)
    wire.refuse_empty(texts, "input", images)
    wire.refuse_empty(body.labels, "labels")
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=[*texts, *body.labels],
        **purpose_of("classification", "task").fields(),
        **body.cutting(),
    )
    return Job(
        model=body.model,
        requests=[request],
        place=lambda _, index: f"input[{index}]" if index < len(texts) else f"labels[{index - len(texts)}]",
        images=images and [*images, *(None for _ in body.labels)],
    )


def _render_classify(body: ClassifyBody, answer: Answer) -> Any:
    """Labels best first for each input; their scores are the softmax of the cosines and add up to 1."""
    vectors = arrays.rows(answer.output)
    inputs, labels = vectors[: len(body.input)], vectors[len(body.input) :]
    # Between -1 and 1, so that the exponentials need no shift.
    weights = np.exp(inputs @ labels.T)
    data: list[dict[str, Any]] = []
    for index, scores in enumerate(weights / weights.sum(axis=1, keepdims=True)):
        predictions = [{"label": body.labels[at], "score": score} for at, score in wire.ranking(scores, None)]
        best = {"prediction": predictions[0]["label"], "score": predictions[0]["score"]}
        data.append({"object": "classification", "index": index, **best, "predictions": predictions})
    return {"data": data, "model": body.model or answer.model, "usage": wire.usage(answer.tokens)}


class Jina(wire.NestedErrors):
    """Jina's words."""

    name = "jina"
    prefix: str | None = "jina"
    routes: Sequence[Route] = (
        Route(
            paths=("/v1/classify", "/classify"),
            operation=Operation.EMBED,
            body=ClassifyBody,
            response=ClassifyResponse,
            summary="Find each input's label without training (Jina)",
            example={"input": ["It's so sunny outside!"], "labels": ["weather", "sport"]},
            parse=_parse_classify,
            render=_render_classify,
            key="input",
            claims=claims,
            claim=schemas.given("labels"),
            precedence=10,
        ),
        embeddings.own_route(
            "Embed texts (Jina)",
            {
                "input": ["The weather is lovely today."],
                "task": "retrieval.passage",
                "embedding_type": "ubinary",
            },
        ),
        Route(
            paths=RERANK_PATHS,
            operation=Operation.RERANK,
            body=RerankBody,
            response=RerankResponse,
            summary="Score documents against a query (Jina)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", {"text": "He drove to the stadium."}],
            },
            parse=reranking.parse,
            render=_render_rerank,
            inputs=("documents",),
            prefix_only=True,
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Jina()
