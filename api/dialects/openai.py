"""OpenAI: `/v1/embeddings`, with the options of those who imitate it, and `/v1/models`, as `openai` speaks them.

On Azure a model is a deployment, and its name part of the path; the query's `api-version` changes nothing here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from api import embeddings, wire
from api.catalog import Catalog
from api.dialect import EMBEDDINGS_PATHS, Dialect, Route, View
from api.embeddings import EmbeddingsBody, EmbeddingsResponse
from api.settings import ApiSettings
from shared.errors import ModelNotFound
from shared.model_config import ModelConfig
from shared.queues import Operation

#: Where clients of those who imitate it look for models, before `/{id}` too.
_MODELS_PATHS = ("/v1/models", "/models", "/openai/v1/models")


class ModelStats(BaseModel):
    """How busy this gateway is with a model, in Infinity's words."""

    #: Inputs that wait or are computed, and their share of what one gateway holds.
    queue_absolute: int
    queue_fraction: float
    results_pending: int
    #: Inputs of the model's greatest length that run in one batch; None before a worker has run it.
    batch_size: int | None


class Model(BaseModel):
    """One model that is served, or configured to be."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    aliases: list[str]
    #: Whether a worker has run it.
    ready: bool
    #: What it can do, in Infinity's words; empty before a worker has run it.
    capabilities: list[str]
    backend: str
    dimensions: int | None
    max_tokens: int | None
    stats: ModelStats


class ModelsResponse(BaseModel):
    """Response of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


def _model(config: ModelConfig, catalog: Catalog, settings: ApiSettings) -> Model:
    card = catalog.card(config.name)
    pending = catalog.pending_items(config.name)
    sees = card is not None and "image" in card.modalities
    return Model(
        id=config.name,
        created=0,
        owned_by="millrace",
        aliases=list(config.aliases),
        ready=catalog.is_served(config.name),
        capabilities=[*map(str, card.operations), *(["image_embed"] if sees else [])] if card else [],
        backend="torch",
        dimensions=card.dimensions if card else None,
        max_tokens=card.max_tokens if card else None,
        stats=ModelStats(
            queue_absolute=pending,
            queue_fraction=pending / settings.max_pending_items,
            results_pending=pending,
            batch_size=max(1, card.max_batch_tokens // card.max_tokens) if card else None,
        ),
    )


def _list_models(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:  # noqa: ARG001
    models = [_model(config, catalog, settings) for config in catalog.models]
    return ModelsResponse(data=models).model_dump()


def _show_model(catalog: Catalog, settings: ApiSettings, parameters: Mapping[str, str]) -> Any:
    name = parameters["id"].removesuffix("/")
    config = catalog.find(name)
    if config is None:
        raise catalog.not_served(name)
    return _model(config, catalog, settings).model_dump()


class OpenAI(wire.NestedErrors):
    """OpenAI's words."""

    name = "openai"
    prefix: str | None = None
    routes: Sequence[Route] = (
        Route(
            paths=EMBEDDINGS_PATHS,
            operation=Operation.EMBED,
            body=EmbeddingsBody,
            response=EmbeddingsResponse,
            summary="Embed texts (OpenAI)",
            example={"model": "all-MiniLM-L6-v2", "input": ["The weather is lovely today."]},
            parse=embeddings.parse,
            render=embeddings.render,
            key="input",
        ),
        Route(
            paths=("/openai/deployments/{model}/embeddings",),
            operation=Operation.EMBED,
            body=EmbeddingsBody,
            response=EmbeddingsResponse,
            summary="Embed texts (Azure OpenAI)",
            example={"input": ["The weather is lovely today."]},
            parse=embeddings.parse,
            render=embeddings.render,
        ),
    )

    def __init__(self) -> None:
        canonical, *aliases = _MODELS_PATHS
        self.views: Sequence[View] = (
            View(
                canonical,
                "List the models (OpenAI)",
                _list_models,
                aliases=aliases,
                response=ModelsResponse,
                is_common=True,
            ),
            # `:path`, since clients write the slash of a name as `%2F`, and what decodes it makes it a slash of the path.
            View(
                f"{canonical}/{{id:path}}",
                "Describe a model (OpenAI)",
                _show_model,
                aliases=[f"{alias}/{{id:path}}" for alias in aliases],
                response=Model,
                errors=(ModelNotFound,),
                is_common=True,
            ),
        )


PLUGIN: Dialect = OpenAI()
