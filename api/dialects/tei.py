"""Text Embeddings Inference: its routes, its statuses, and `/info`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, Field

from api import embeddings, tei_bodies
from api.catalog import Catalog
from api.dialect import RERANK_PATHS, Dialect, Route, View, led_by
from api.error_bodies import TeiError
from api.settings import ApiSettings
from shared import __version__
from shared.errors import MillraceError
from shared.model_card import ModelCard
from shared.queues import Operation
from shared.results import Kind

#: TEI's names of poolings, where they are not ours.
_POOLINGS = {"lasttoken": "last_token"}


class Info(BaseModel):
    """Response of `GET /info`: the first configured model, and the limits of the service."""

    model_id: str
    model_sha: str | None = Field(description="The configured revision.")
    model_dtype: str | None = Field(description="Null while no worker has run the model, as everything that it says.")
    served_model_name: str
    model_type: dict[str, dict[str, Any]] = Field(
        description='`{"embedding": {"pooling"}}`, or `{"reranker"}` or `{"classifier": {"id2label", "label2id"}}`.'
    )
    max_concurrent_requests: int
    max_input_length: int | None
    max_batch_tokens: int | None
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


class Tei:
    """TEI's words."""

    name = "tei"
    prefix: str | None = "tei"
    error_body: type[BaseModel] = TeiError
    routes: Sequence[Route] = (
        Route(
            paths=("/embed",),
            operation=Operation.EMBED,
            body=tei_bodies.EmbedBody,
            response=list[list[float]],
            summary="Embed texts (TEI)",
            example={"inputs": ["The weather is lovely today.", "He drove to the stadium."]},
            parse=tei_bodies.parse_embed,
            render=tei_bodies.render_embed,
        ),
        Route(
            paths=led_by("/rerank", RERANK_PATHS),
            operation=Operation.RERANK,
            body=tei_bodies.RERANK.body,
            response=tei_bodies.RERANK.response,
            summary="Score texts against a query (TEI)",
            example={"query": "How is the weather?", "texts": ["It's so sunny outside!", "He drove to the stadium."]},
            parse=tei_bodies.RERANK.parse,
            render=tei_bodies.RERANK.render,
            key="texts",
        ),
        Route(
            paths=("/similarity",),
            operation=Operation.EMBED,
            body=tei_bodies.SIMILARITY.body,
            response=tei_bodies.SIMILARITY.response,
            summary="Cosine similarities of texts with a source (TEI)",
            example={
                "inputs": {
                    "source_sentence": "The weather is lovely today.",
                    "sentences": ["It's so sunny outside!", "He drove to the stadium."],
                }
            },
            parse=tei_bodies.SIMILARITY.parse,
            render=tei_bodies.SIMILARITY.render,
        ),
        Route(
            paths=("/embed_sparse",),
            operation=Operation.EMBED,
            body=tei_bodies.EmbedKindBody,
            response=list[list[tei_bodies.SparseValue]],
            summary="Sparse vectors of texts (TEI)",
            example={"inputs": ["The weather is lovely today."]},
            parse=partial(tei_bodies.parse_kind, Kind.SPARSE),
            render=tei_bodies.render_sparse,
        ),
        Route(
            paths=("/embed_all",),
            operation=Operation.EMBED,
            body=tei_bodies.EmbedKindBody,
            response=list[list[list[float]]],
            summary="A vector for each token (TEI)",
            example={"inputs": ["The weather is lovely today."]},
            parse=partial(tei_bodies.parse_kind, Kind.MULTIVECTOR),
            render=tei_bodies.render_tokens,
        ),
        Route(
            paths=("/predict",),
            operation=Operation.CLASSIFY,
            body=tei_bodies.PredictBody,
            response=list[tei_bodies.Label] | list[list[tei_bodies.Label]],
            summary="Scores of a classifier's labels (TEI)",
            example={"inputs": [["I like this."], ["I hate this."]]},
            parse=tei_bodies.parse_predict,
            render=tei_bodies.render_labels,
        ),
        Route(
            paths=("/tokenize",),
            operation=Operation.TOKENIZE,
            body=tei_bodies.TokenizeBody,
            response=list[list[tei_bodies.SimpleToken]],
            summary="Tokens of texts, by the model's own tokenizer (TEI)",
            example={"inputs": ["The weather is lovely today."]},
            parse=tei_bodies.parse_tokenize,
            render=tei_bodies.render_token_lists,
        ),
        Route(
            paths=("/decode",),
            operation=Operation.DECODE,
            body=tei_bodies.DecodeBody,
            response=list[str],
            summary="Texts of token ids, by the model's own tokenizer (TEI)",
            example={"ids": [[101, 1996, 4633, 2003, 8403, 2651, 1012, 102]]},
            parse=tei_bodies.parse_decode,
            render=tei_bodies.render_texts,
        ),
        embeddings.own_route(
            "Embed texts (TEI, in OpenAI's words)",
            {"input": ["The weather is lovely today."], "encoding_format": "float"},
            paths=("/v1/embeddings", "/embeddings"),
        ),
    )

    def __init__(self) -> None:
        self.views: Sequence[View] = (View("/info", "Model and limits (TEI)", _info, response=Info),)

    def render_error(self, error: MillraceError) -> tuple[int, dict[str, Any]]:
        """TEI's flat error object, with its statuses."""
        return tei_bodies.render_error(error)


def _info(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    config = catalog.models[0]
    card = catalog.card(config.name)
    return {
        "model_id": config.name,
        "model_sha": config.revision,
        "model_dtype": card.dtype if card else None,
        "served_model_name": config.name,
        "model_type": _model_type(card),
        "max_concurrent_requests": settings.max_pending_items,
        "max_input_length": card.max_tokens if card else None,
        "max_batch_tokens": card.max_batch_tokens if card else None,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_client_batch_size,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def _model_type(card: ModelCard | None) -> dict[str, Any]:
    if card is None:
        return {"embedding": {"pooling": None}}
    if card.model_type == "embedding":
        pooling = "splade" if card.kinds == [Kind.SPARSE] else _POOLINGS.get(card.pooling or "", card.pooling)
        return {"embedding": {"pooling": pooling}}
    labels = card.labels or ["LABEL_0"]
    id2label = {str(index): label for index, label in enumerate(labels)}
    return {card.model_type: {"id2label": id2label, "label2id": {label: index for index, label in enumerate(labels)}}}


PLUGIN: Dialect = Tei()
