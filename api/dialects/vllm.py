"""vLLM: `/score`, `/classify`, `/pooling`, embeddings of `messages`; under `/vllm` its rerank, which returns documents."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from api import embeddings, messages, reranking, scores, wire
from api.dialect import EMBEDDINGS_PATHS, RERANK_PATHS, Answer, Context, Dialect, Job, Route, View
from api.embeddings import EmbeddingsResponse, VectorFields
from api.fields import OnlyTrue, either
from api.inputs import TextsOrTokens, only_texts
from api.messages import MessagesBody
from api.pairs import SIDES, FirstSide, SecondSide, paired, place_of, two_sides
from api.places import listed
from api.reranking import RerankBody, RerankResult, ScoringFields, returned_object
from api.truncation import TruncationFields
from api.vector_format import refuse_for_multivectors
from shared import arrays
from shared.jobs import ClassifyRequest, EmbedRequest, RerankRequest
from shared.queues import Operation
from shared.results import Kind


class ScoreBody(ScoringFields):
    """Request of `POST /score`: pairs of texts, as one with one, one with each of many, or many with as many."""

    model_config = either(*map(two_sides, SIDES))

    queries: FirstSide | None = Field(None, description="One text or a list, the first of each pair ...")
    documents: SecondSide | None = Field(None, description="... and the second. Older names:")
    items: SecondSide | None = Field(None, description="`documents`.")
    text_1: FirstSide | None = Field(None, description="`queries` ...")
    text_2: SecondSide | None = Field(None, description="... and `documents`.")
    data_1: FirstSide | None = Field(None, description="`queries` ...")
    data_2: SecondSide | None = Field(None, description="... and `documents`.")

    def pairs(self) -> list[tuple[str, list[str]]]:
        """Each first text with the second ones that it is scored with, in their order.

        Raises:
            InvalidRequest: The sides are not named, not texts, or not as many.
        """
        return paired(self.sides())

    def sides(self) -> dict[str, SecondSide | None]:
        """Its sides by their names."""
        return {name: getattr(self, name) for sides in SIDES for name in sides}


class Score(BaseModel):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(BaseModel):
    """Response of `POST /score`, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: wire.Usage


class RerankResponse(BaseModel):
    """Response of `POST /vllm/rerank`: every result has its document."""

    id: str
    object: Literal["rerank"] = "rerank"
    created: int
    model: str
    usage: wire.Usage
    results: list[RerankResult]


class ClassifyBody(TruncationFields):
    """Request of `POST /classify`."""

    input: TextsOrTokens = Field(description="One text or a list of texts. Token ids are refused.")
    model: str | None = Field(None, description="Name of the model; the first classifier when absent.")
    use_activation: bool | None = Field(None, description="False gives logits instead of probabilities.")
    add_special_tokens: OnlyTrue | None = Field(None, description="Always true.")


class ClassProbabilities(BaseModel):
    """One classified text."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassifyResponse(BaseModel):
    """Response of `POST /classify`."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassProbabilities]
    usage: wire.Usage


class PoolingBody(TruncationFields, VectorFields):
    """Request of `POST /pooling`."""

    input: TextsOrTokens = Field(description="One text or a list of texts. Token ids are refused.")
    model: str | None = Field(None, description="Name of the model; the first that makes such vectors when absent.")
    add_special_tokens: OnlyTrue | None = Field(None, description="Always true.")
    task: Literal["token_embed", "embed"] | None = Field(
        None, description="`token_embed`: a vector for each token (default); `embed`: one for each text."
    )


class Pooled(BaseModel):
    """What became of one text: a vector for each token, or one; in base64 the bytes of all."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[list[float]] | list[float] | str


class PoolingResponse(BaseModel):
    """Response of `POST /pooling`."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Pooled]
    usage: wire.Usage


def _parse_score(body: ScoreBody, context: Context) -> Job:
    scoring = body.scoring()
    requests = [
        RerankRequest(
            request_id=context.request_id, deadline=context.deadline, query=query, documents=documents, **scoring
        )
        for query, documents in body.pairs()
    ]
    return Job(model=body.model, requests=requests, place=place_of(body.sides()))


def _render_score(body: ScoreBody, answer: Answer) -> Any:
    """Scores in the order of the pairs."""
    shown = np.concatenate([scores.shown(output) for output in answer.outputs])
    return {
        **wire.envelope("score", "list", body.model or answer.model, answer.tokens),
        "data": [{"index": index, "object": "score", "score": score} for index, score in enumerate(shown)],
    }


def _render_rerank(body: RerankBody, answer: Answer) -> Any:
    """Results best first, each with its document."""
    return {
        **wire.envelope("rerank", "rerank", body.model or answer.model, answer.tokens),
        "results": reranking.results(body, answer, best=body.top_n, returned=returned_object),
    }


def _parse_classify(body: ClassifyBody, context: Context) -> Job:
    request = ClassifyRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=only_texts(body.input),
        raw_scores=body.use_activation is False,
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("input", body.input))


def _render_classify(body: ClassifyBody, answer: Answer) -> Any:
    """The scores of all labels in the model's order, and the name of the best."""
    labels, rows = answer.output.labels, arrays.rows(answer.output)
    return {
        **wire.envelope("classify", "list", body.model or answer.model, answer.tokens),
        "data": [
            {"index": index, "label": labels[int(row.argmax())], "probs": row, "num_classes": len(row)}
            for index, row in enumerate(rows)
        ],
    }


def _parse_pooling(body: PoolingBody, context: Context) -> Job:
    is_dense = body.task == "embed"
    if not is_dense:
        refuse_for_multivectors(**body.dense_options())
    request = EmbedRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        texts=only_texts(body.input),
        normalize=body.is_normalized(),
        dimensions=body.dimensions or None,
        kinds=[Kind.DENSE if is_dense else Kind.MULTIVECTOR],
        precisions=[body.vector_format().precision],
        **body.cutting(),
    )
    return Job(model=body.model, requests=[request], place=listed("input", body.input))


def _render_pooling(body: PoolingBody, answer: Answer) -> Any:
    """Vectors in input order."""
    form = body.vector_format()
    rows = form.rows(answer.output) if body.task == "embed" else form.token_rows(answer.output)
    return {
        **wire.envelope("pool", "list", body.model or answer.model, answer.tokens),
        "data": [{"index": index, "object": "pooling", "data": row} for index, row in enumerate(rows)],
    }


class Vllm(wire.NestedErrors):
    """vLLM's words."""

    name = "vllm"
    prefix: str | None = "vllm"
    routes: Sequence[Route] = (
        Route(
            paths=("/v1/score", "/score"),
            operation=Operation.RERANK,
            body=ScoreBody,
            response=ScoreResponse,
            summary="Score pairs of texts (vLLM)",
            example={
                "queries": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
            },
            parse=_parse_score,
            render=_render_score,
            inputs=sorted({name for sides in SIDES for name in sides}),
        ),
        Route(
            paths=("/classify", "/v1/classify"),
            operation=Operation.CLASSIFY,
            body=ClassifyBody,
            response=ClassifyResponse,
            summary="Probabilities of a classifier's labels (vLLM)",
            example={"input": ["I like this.", "I hate this."]},
            parse=_parse_classify,
            render=_render_classify,
            key="input",
        ),
        Route(
            paths=("/pooling",),
            operation=Operation.EMBED,
            body=PoolingBody,
            response=PoolingResponse,
            summary="A vector for each token (vLLM)",
            example={"input": ["The weather is lovely today."]},
            parse=_parse_pooling,
            render=_render_pooling,
        ),
        Route(
            paths=EMBEDDINGS_PATHS,
            operation=Operation.EMBED,
            body=MessagesBody,
            response=EmbeddingsResponse,
            summary="Embed a message (vLLM)",
            example={
                "messages": [{"role": "user", "content": [{"type": "text", "text": "The weather is lovely today."}]}]
            },
            parse=messages.parse,
            render=messages.render,
            key="messages",
        ),
        embeddings.own_route(
            "Embed texts (vLLM)", {"input": ["The weather is lovely today."], "truncate_prompt_tokens": -1}, key="input"
        ),
        Route(
            paths=RERANK_PATHS,
            operation=Operation.RERANK,
            body=RerankBody,
            response=RerankResponse,
            summary="Score documents against a query (vLLM)",
            example={
                "query": "How is the weather?",
                "documents": ["It's so sunny outside!", "He drove to the stadium."],
            },
            parse=reranking.parse,
            render=_render_rerank,
            inputs=("documents",),
            prefix_only=True,
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = Vllm()
