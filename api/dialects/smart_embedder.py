"""Smart-Embedder: dense, sparse and ColBERT vectors of one call, and warnings instead of silence about what was cut."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from api import scores, wire
from api.dialect import EMBEDDINGS_PATHS, RERANK_PATHS, Answer, Context, Dialect, Job, Route, View, led_by
from api.fields import RequestFields, Several, Text, Texts
from api.kinds import Vectors, hybrid_job
from api.places import listed, ranked
from api.prompts import PromptFields
from api.truncation_warnings import TruncationWarning, truncation_warnings
from shared.errors import WrongTask
from shared.jobs import RerankRequest
from shared.queues import Operation
from shared.results import Kind


class EmbeddingsBody(PromptFields):
    """Request of `POST /embeddings/` in Smart-Embedder's words."""

    sentences: Texts = Field(description="Texts to embed.")
    return_dense: bool | None = Field(
        None, description="With dense vectors; when absent, if a served model makes them."
    )
    return_sparse: bool | None = Field(
        None, description="With sparse vectors; when absent, if a served model makes them."
    )
    return_colbert: bool | None = Field(
        None, description="With a vector for each token; when absent, if a served model makes them."
    )
    normalize_dense: bool | None = Field(False, description="Scale dense vectors to unit length.")
    sparse_as_indices: bool | None = Field(
        False, description="Sparse vectors as `{indices, values}`, which Qdrant takes, instead of weights by token id."
    )
    truncate: bool | None = Field(None, description="Cut over-long texts (default) or refuse them.")
    model: str | None = Field(None, description="Name of the model; those that make the vectors when absent.")

    def kinds(self, served: Sequence[Kind]) -> list[Kind]:
        """What is wanted: what it says, and where it says nothing what is made here.

        Raises:
            WrongTask: Nothing is.
        """
        asked = {
            "return_dense": (Kind.DENSE, self.return_dense),
            "return_sparse": (Kind.SPARSE, self.return_sparse),
            "return_colbert": (Kind.MULTIVECTOR, self.return_colbert),
        }
        found = [kind for kind, wanted in asked.values() if (kind in served if wanted is None else wanted)]
        if not found:
            declined = next(name for name, (_, wanted) in asked.items() if wanted is False)
            raise WrongTask(
                f"`{declined}` is false, and no kind of vectors is asked for that is made here", param=declined
            )
        return found


class SparseIndices(BaseModel):
    """A sparse vector as Qdrant takes it."""

    indices: list[int]
    values: list[float]


class EmbeddingVectors(BaseModel):
    """The vectors of one sentence, of the kinds that were asked for."""

    dense: list[float] | None = None
    sparse: dict[str, float] | SparseIndices | None = None
    colbert: list[list[float]] | None = None


class SingleEmbedding(BaseModel):
    """One sentence with its vectors."""

    id: int = Field(description="Position of the sentence in the request, from 0.")
    text: str
    embeddings: EmbeddingVectors


class EmbeddingsResponse(BaseModel):
    """Response of `POST /embeddings/` in Smart-Embedder's words."""

    data: list[SingleEmbedding]
    model_name: str
    dense_model_name: str | None
    sparse_model_name: str | None
    colbert_model_name: str | None
    processing_time_ms: float
    warnings: list[TruncationWarning]


class RerankBody(RequestFields):
    """Request of `POST /rerank` in Smart-Embedder's words."""

    query: Text = Field(description="What the passages are scored against.")
    passages: Several[str] = Field(description="Texts to score; one may be empty.")
    normalize: bool | None = Field(False, description="Scores between 0 and 1 instead of as the model gives them.")
    truncate: bool | None = Field(None, description="Cut over-long passages (default) or refuse them.")
    model: str | None = Field(None, description="Name of the model; the default reranker when absent.")


class RankedPassage(BaseModel):
    """One scored passage."""

    index: int
    passage: str
    score: float


class RerankResponse(BaseModel):
    """Response of `POST /rerank` in Smart-Embedder's words."""

    results: list[RankedPassage]
    model_name: str
    processing_time_ms: float
    warnings: list[TruncationWarning]


def _parse_embeddings(body: EmbeddingsBody, context: Context) -> Job:
    wire.refuse_empty(body.sentences, "sentences")
    # Nobody has said yet what is made here: then the least that an embedding model does.
    served = context.catalog.kinds(body.model) or [Kind.DENSE]
    return hybrid_job(
        body.model,
        body.kinds(served),
        body.sentences,
        context,
        place=listed("sentences"),
        normalize=bool(body.normalize_dense),
        **body.prompting(),
        truncate=body.truncate is not False,
    )


def _render_embeddings(body: EmbeddingsBody, answer: Answer) -> Any:
    vectors = Vectors(answer.models, answer.outputs)
    dense, sparse, colbert = vectors.dense, vectors.sparse, vectors.multivector
    data = []
    for index, sentence in enumerate(body.sentences):
        embeddings: dict[str, Any] = {}
        if dense is not None:
            embeddings["dense"] = dense[index]
        if sparse is not None:
            indices, values = sparse[index]
            by_id = zip(map(str, indices.tolist()), values.tolist(), strict=True)
            embeddings["sparse"] = {"indices": indices, "values": values} if body.sparse_as_indices else dict(by_id)
        if colbert is not None:
            embeddings["colbert"] = colbert[index]
        data.append({"id": index, "text": sentence, "embeddings": embeddings})
    return {
        "data": data,
        "model_name": answer.model,
        "dense_model_name": vectors.model(Kind.DENSE),
        "sparse_model_name": vectors.model(Kind.SPARSE),
        "colbert_model_name": vectors.model(Kind.MULTIVECTOR),
        "processing_time_ms": round(answer.seconds * 1000, 2),
        "warnings": truncation_warnings(answer, "sentences"),
    }


def _parse_rerank(body: RerankBody, context: Context) -> Job:
    wire.refuse_empty([body.query], "query")
    wire.refuse_none(body.passages, "passages")
    request = RerankRequest(
        request_id=context.request_id,
        deadline=context.deadline,
        query=body.query,
        documents=body.passages,
        raw_scores=not body.normalize,
        truncate=body.truncate is not False,
    )
    return Job(model=body.model, requests=[request], place=ranked("passages"))


def _render_rerank(body: RerankBody, answer: Answer) -> Any:
    """Best first."""
    return {
        "results": [
            {"index": index, "passage": body.passages[index], "score": score}
            for index, score in scores.ranked(answer.output, None)
        ],
        "model_name": answer.model,
        "processing_time_ms": round(answer.seconds * 1000, 2),
        "warnings": truncation_warnings(answer, "passages"),
    }


class SmartEmbedder(wire.NestedErrors):
    """Smart-Embedder's words. Its `/stats` is with the probes: it counts requests of every dialect."""

    name = "smart_embedder"
    prefix: str | None = None
    routes: Sequence[Route] = (
        Route(
            paths=led_by("/embeddings", EMBEDDINGS_PATHS),
            operation=Operation.EMBED,
            body=EmbeddingsBody,
            response=EmbeddingsResponse,
            summary="Dense, sparse and ColBERT vectors (Smart-Embedder)",
            example={"sentences": ["The weather is lovely today."], "return_dense": True, "sparse_as_indices": True},
            parse=_parse_embeddings,
            render=_render_embeddings,
            key="sentences",
        ),
        Route(
            paths=led_by("/rerank", RERANK_PATHS),
            operation=Operation.RERANK,
            body=RerankBody,
            response=RerankResponse,
            summary="Score passages against a query (Smart-Embedder)",
            example={
                "query": "How is the weather?",
                "passages": ["It's so sunny outside!", "He drove to the stadium."],
                "normalize": True,
            },
            parse=_parse_rerank,
            render=_render_rerank,
            key="passages",
        ),
    )
    views: Sequence[View] = ()


PLUGIN: Dialect = SmartEmbedder()
